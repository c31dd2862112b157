"""Two processes under gloo see what one process sees."""

import pytest
import torch

from lightning_id.functional import pca_dimension, twonn_dimension
from lightning_id.metrics import TwoNNDimension
from lightning_id.metrics.reservoir import random_keys
from tests.metrics.rank import MAX_SAMPLES, SCENARIOS, rows, save_scenarios
from tests.processes import in_ranks


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    in_ranks(save_scenarios, folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def expected_sample(*data: torch.Tensor | None) -> torch.Tensor:
    """The rows of smallest key of both ranks, rank by rank, in the widest dtype."""
    given = [x for x in data if x is not None]
    keys = [random_keys(0, rank, 0, len(x)) for rank, x in enumerate(data) if x is not None]
    return torch.cat(given)[torch.cat(keys).argsort()[:MAX_SAMPLES].sort().values]


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "nobody with data"])
def test_both_ranks_hold_the_sample_of_one_process_and_its_estimate(seen, name):
    sample = expected_sample(*SCENARIOS[name])
    for rank in seen:
        assert rank[name]["sample"].dtype == sample.dtype
        assert torch.equal(rank[name]["sample"], sample)
        expected = twonn_dimension(sample).to_dict()
        assert rank[name]["value"] == pytest.approx(expected["value"], rel=1e-6)
        note = rank[name]["estimate"].pop("note")
        assert rank[name]["estimate"] == {k: v for k, v in expected.items() if k != "note"}
        total = sum(len(x) for x in SCENARIOS[name] if x is not None)
        sampled = f"a uniform sample of {MAX_SAMPLES} of {total} rows"
        assert note == (sampled if total > MAX_SAMPLES else None)


@pytest.mark.parametrize("name", SCENARIOS)
def test_after_compute_each_rank_holds_its_own_rows_again(seen, name):
    for rank, data in enumerate(SCENARIOS[name]):
        n = 0 if data is None else min(len(data), MAX_SAMPLES)
        assert len(seen[rank][name]["own"]) == n


def test_where_no_rank_has_data_all_ranks_see_nan_and_the_reason(seen):
    for rank in seen:
        assert rank["nobody with data"]["value"] != rank["nobody with data"]["value"]
        assert "got 0" in rank["nobody with data"]["estimate"]["reason"]


def test_rows_of_different_lengths_are_an_error_on_every_rank_and_break_nothing(seen):
    for number, rank in enumerate(seen):
        assert "got lengths [3, 4]" in rank["lengths"]
        expected = twonn_dimension(rows(50, d=3 + number)).value
        assert rank["after the error"] == pytest.approx(expected, rel=1e-6)


def test_too_few_rows_are_nan_and_accumulation_goes_on(seen):
    everything = torch.cat((rows(1), rows(150, seed=2), rows(1, seed=1), rows(150, seed=3)))
    for rank in seen:
        assert rank["too few"] != rank["too few"]
        expected = twonn_dimension(everything).value
        assert rank["more later"] == pytest.approx(expected, rel=1e-5)
        assert rank["after reset"] == pytest.approx(twonn_dimension(rows(200)).value, rel=1e-5)


def test_forward_estimates_the_batch_of_the_rank_unless_synchronised(seen):
    both = twonn_dimension(torch.cat((rows(100), rows(100, seed=1)))).value
    for number, rank in enumerate(seen):
        own = twonn_dimension(rows(100, seed=number)).value
        assert rank["forward"] == pytest.approx(own, rel=1e-6)
        assert rank["not synchronised"] == pytest.approx(own, rel=1e-6)
        assert rank["forward of all"] == pytest.approx(both, rel=1e-6)


def test_a_collection_synchronises_its_shared_rows(seen):
    for rank in seen:
        assert rank["collection"]["PCADimension"] == pca_dimension(rows(300)).value
        twonn = twonn_dimension(rows(300)).value
        assert rank["collection"]["TwoNNDimension"] == pytest.approx(twonn, rel=1e-5)


def test_only_rows_that_stay_are_sent():
    sent = []

    def gather(x, group):
        sent.append(tuple(x.shape))
        return [x, x]  # the other rank holds the same

    metric = TwoNNDimension(
        max_samples=100, dist_sync_fn=gather, distributed_available_fn=lambda: True
    )
    metric.update(rows(900))
    assert metric.estimate().note == "a uniform sample of 100 of 1800 rows"
    assert sent == [(4,), (100,), (50, 6)]  # header, keys, rows
