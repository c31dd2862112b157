"""The sample: uniform, bounded, the same however the rows come."""

import numpy as np
import pytest
import torch
from tester import assert_same_estimate, filled, gaussian

from lightning_id.functional import participation_ratio
from lightning_id.metrics import DimensionMetric, PCADimension, TwoNNDimension
from lightning_id.metrics.reservoir import kth_smallest, random_keys


def reservoir(max_samples: int, seed: int = 0) -> DimensionMetric:
    return DimensionMetric(participation_ratio, max_samples, seed)


def numbered(n: int, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + n, dtype=torch.float64)[:, None]


def held_rows(metric: DimensionMetric) -> int:
    chunks = next(value for name, value in metric.metric_state.items() if name.startswith("rows"))
    assert sum(chunk.untyped_storage().nbytes() for chunk in chunks) == sum(
        chunk.nbytes for chunk in chunks
    )
    return sum(len(chunk) for chunk in chunks)


# --- uniform --------------------------------------------------------------------------------------


def test_every_row_and_every_pair_of_rows_is_kept_equally_often():
    n, k, repeats = 40, 10, 300
    kept = torch.zeros(repeats, n, dtype=torch.float64)
    for seed in range(repeats):
        sample = filled(reservoir(k, seed), numbered(n), batch_size=9).samples
        assert sample.shape == (k, 1)
        kept[seed, sample[:, 0].long()] = 1
    share = k / n
    # Pearson's statistic of the counts of the rows; n - 1 degrees of freedom, deviation sqrt(2
    # dof).
    counts = kept.sum(0)
    chi2 = float(((counts - repeats * share) ** 2).sum() / (repeats * share * (1 - share)))
    chi2 *= (n - 1) / n
    assert abs(chi2 - (n - 1)) < 4 * (2 * (n - 1)) ** 0.5
    # Pairs: each is kept together with probability k (k - 1) / (n (n - 1)).
    together = (kept.T @ kept)[*torch.triu_indices(n, n, 1)]
    expected = repeats * k * (k - 1) / (n * (n - 1))
    assert float((together - expected).abs().max()) < 5 * expected**0.5
    assert float((together - expected).square().mean()) == pytest.approx(expected, rel=0.15)


def test_kept_rows_have_the_smallest_keys_in_their_order():
    metric = filled(reservoir(50, seed=3), numbered(1000), batch_size=33)
    smallest = random_keys(3, 0, 0, 1000).argsort()[:50].sort().values
    assert torch.equal(metric.samples[:, 0].long(), smallest)


@pytest.mark.parametrize("batch_size", [1, 10, 37, 400])
def test_any_split_keeps_the_same_sample(batch_size):
    whole = filled(reservoir(100), numbered(400), batch_size=400).samples
    assert torch.equal(filled(reservoir(100), numbered(400), batch_size).samples, whole)


def test_keys_of_ranks_and_seeds_have_nothing_in_common():
    streams = [random_keys(seed, rank, 0, 4000) for seed in (0, 1) for rank in (0, 1)]
    assert torch.cat(streams).unique().numel() == 16000
    correlations = np.corrcoef(torch.stack(streams).double().numpy())
    assert np.abs(correlations[~np.eye(4, dtype=bool)]).max() < 4 / 4000**0.5


def test_the_sample_depends_on_the_seed_alone():
    torch.rand(1)
    one = filled(reservoir(20, seed=7), numbered(100)).samples
    torch.rand(1)
    assert torch.equal(filled(reservoir(20, seed=7), numbered(100)).samples, one)
    assert not torch.equal(filled(reservoir(20, seed=8), numbered(100)).samples, one)


def test_global_random_numbers_are_untouched():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    metric = filled(TwoNNDimension(max_samples=50), gaussian())
    metric(gaussian())
    metric.compute()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_kth_smallest_limits_nothing_until_there_are_more():
    keys = torch.tensor([5, -7, 3])
    assert kth_smallest(keys, 2) == 3
    assert kth_smallest(keys, 3) == torch.iinfo(torch.int64).max


# --- bounded --------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["update", "forward"])
def test_memory_is_bounded_in_update_and_through_forward(call):
    metric = reservoir(100)
    for start in range(0, 5000, 50):
        getattr(metric, call)(numbered(50, start))
        assert held_rows(metric) <= 125
    metric.compute()
    assert held_rows(metric) == 100
    assert metric.estimate().note == "a uniform sample of 100 of 5000 rows"


def test_a_batch_larger_than_the_reservoir_is_sampled_at_once():
    metric = reservoir(100)
    metric.update(numbered(10_000))
    assert held_rows(metric) == 100


def test_an_estimate_from_all_rows_has_no_note():
    assert filled(reservoir(300), gaussian()).estimate().note is None
    assert filled(reservoir(299), gaussian()).estimate().note is not None


# --- merged ---------------------------------------------------------------------------------------


def test_merged_reservoirs_keep_the_smallest_keys_of_both():
    one = filled(reservoir(40, seed=1), numbered(200))
    two = filled(reservoir(40, seed=2), numbered(300, start=200))
    one.compute()  # a cached value must not survive
    one.merge_state(two)
    keys = torch.cat((random_keys(1, 0, 0, 200), random_keys(2, 0, 0, 300)))
    assert torch.equal(one.samples[:, 0].long(), keys.argsort()[:40].sort().values)
    assert one.estimate().note == "a uniform sample of 40 of 500 rows"
    # Rows that come later draw keys that no row before them had.
    one.update(numbered(100, start=500))
    keys = torch.cat((keys, random_keys(1, 0, 500, 100)))
    assert torch.equal(one.samples[:, 0].long(), keys.argsort()[:40].sort().values)


def test_a_reservoir_that_dropped_nothing_merges_as_one_more_batch():
    one, two = filled(reservoir(40), numbered(200)), filled(reservoir(40), numbered(30, 200))
    one.merge_state(two)
    assert torch.equal(one.samples, filled(reservoir(40), numbered(230)).samples)


def test_merging_an_empty_reservoir_changes_nothing():
    one = filled(reservoir(40), numbered(200))
    before = one.samples.clone()
    one.merge_state(reservoir(40))
    assert torch.equal(one.samples, before)
    empty = reservoir(40)
    empty.merge_state(one)
    assert torch.equal(empty.samples, before)
    assert_same_estimate(empty.estimate(), one.estimate())


def test_a_state_merges_like_its_metric():
    one, two = filled(reservoir(400), numbered(200)), filled(reservoir(400), numbered(200, 200))
    one.merge_state(two.metric_state)
    assert torch.equal(one.samples, numbered(400))


def test_merging_what_is_no_uniform_sample_is_refused():
    one = filled(reservoir(40), numbered(200))
    with pytest.raises(ValueError, match="its own `seed`"):
        one.merge_state(filled(reservoir(40), numbered(300)))
    with pytest.raises(ValueError, match=r"`max_samples` >= 40.*got 30 that has seen 300"):
        one.merge_state(filled(reservoir(30, seed=1), numbered(300)))
    with pytest.raises(ValueError, match=r"`incoming_state`.*rows_max40_seed0"):
        one.merge_state({"rows": []})
    assert len(one.samples) == 40


def test_metrics_of_different_classes_merge():
    one = filled(TwoNNDimension(), gaussian())
    one.merge_state(filled(PCADimension(), gaussian(seed=1)))
    assert len(one.samples) == 600
