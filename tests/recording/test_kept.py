"""Layers whose rows did not change keep their estimates; a change of one value is noticed."""

import pytest
import torch
from torch import nn

from lightning_id import IntrinsicDimensionCallback
from lightning_id.functional import pca_dimension, twonn_dimension
from lightning_id.recording.measurement import Measurement, Options
from lightning_id.recording.processes import SingleProcess
from lightning_id.recording.results import KEPT, Fingerprint, hashes_of_few
from lightning_id.recording.samples import FixedSamples, choose_samples, uniform_draws
from tests.toys import fitted, loader

N = 60
NAMES = {"input": "input", "0": "first"}
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(1))


class Runs:
    """Measurements of a network one after the other, which count the calls of the estimators."""

    def __init__(self, **options):
        torch.random.default_generator.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 2)).requires_grad_(False)
        self.options, self.kept, self.calls = options, {}, 0

    def twonn(self, geometry):
        self.calls += 1
        return twonn_dimension(geometry)

    def measure(self, x=X, labels=None, estimators=None):
        """Return the results by layer."""
        samples = FixedSamples(choose_samples(N, N, seed=0), uniform_draws(N, 0))
        measurement = Measurement(
            self.net, NAMES, samples, last_hidden="first", kept=self.kept, **self.options
        )
        measurement.begin_batch(x if labels is None else [x, labels])
        self.net(x)
        measurement.end_batch()
        estimators = estimators or {"twonn": self.twonn, "pca": pca_dimension}
        return {result.layer: result for result in measurement.results(estimators)}


def computations(results):
    return {
        layer: [estimate.computation for estimate in result.estimates.values()]
        for layer, result in results.items()
    }


def test_unchanged_rows_keep_their_estimates_from_the_third_measurement_on():
    runs = Runs()
    first, second, third, fourth = (runs.measure() for _ in range(4))
    assert runs.calls == 4  # two measurements of two layers
    assert computations(second) == {"input": [None, None], "first": [None, None]}
    assert computations(third) == computations(fourth) == {"input": [KEPT] * 2, "first": [KEPT] * 2}
    for layer, result in first.items():
        for name, estimate in result.estimates.items():
            assert fourth[layer].estimates[name].value == estimate.value
            assert fourth[layer].estimates[name].std_error == pytest.approx(
                estimate.std_error, nan_ok=True, rel=0
            )
        assert torch.equal(fourth[layer].spectrum, result.spectrum)
        assert fourth[layer].seconds == {"twonn": 0, "pca": 0}


@pytest.mark.parametrize("row", range(0, N, 7))
def test_a_change_of_one_value_by_one_rounding_is_noticed(row):
    runs = Runs()
    for _ in range(3):
        runs.measure()
    other = X.clone()
    other[row, 3] = torch.nextafter(other[row, 3], torch.tensor(9.0))
    assert computations(runs.measure(other))["input"] == [None, None]


def test_a_layer_that_changes_is_measured_and_one_that_does_not_is_kept():
    runs = Runs()
    for _ in range(4):
        runs.net[0].weight += 0.01
        results = runs.measure()
    assert computations(results) == {"input": [KEPT] * 2, "first": [None, None]}


def test_samples_in_another_order_are_other_rows():
    runs = Runs()
    for _ in range(3):
        runs.measure()
    assert computations(runs.measure(X.flip(0)))["input"] == [None, None]


def test_classes_are_kept_as_long_as_the_labels_stay():
    runs = Runs(options=Options(smallest_class=10))
    labels = torch.arange(N) % 3
    for _ in range(3):
        found = runs.measure(labels=labels)["input"]
    assert [found.per_class[k]["twonn"].computation for k in range(3)] == [KEPT] * 3
    assert computations(runs.measure(labels=labels.flip(0)))["input"] == [None, None]


def test_other_estimators_measure_again():
    runs = Runs()
    for _ in range(3):
        runs.measure()
    assert runs.measure(estimators={"pca": pca_dimension})["input"].estimates["pca"].value == 5


def test_an_estimator_that_failed_is_tried_again():
    runs, errors = Runs(), []

    def failing(geometry):
        errors.append(ValueError("broken"))
        raise errors[-1]

    for _ in range(3):
        runs.measure(estimators={"failing": failing})
    assert len(errors) == 6


def test_no_rank_keeps_what_another_measures():
    class WithOneThatChanged(SingleProcess):
        def all_gather(self, value):
            is_of_rows = isinstance(value, tuple) and isinstance(value[-1], bool)
            return [value, (*value[:-1], False)] if is_of_rows else [value]

    runs = Runs(processes=WithOneThatChanged())
    for _ in range(4):
        results = runs.measure()
    assert computations(results) == {"input": [None, None], "first": [None, None]}


def fingerprint(rows, before):
    return Fingerprint.of(rows, hashes_of_few([("", rows)]).get(""), (), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e5m2])
def test_every_dtype_has_a_fingerprint(dtype):
    first = fingerprint(X.to(dtype), None)
    second = fingerprint(X.to(dtype), first)
    assert fingerprint(X.to(dtype), second).equals(second)
    assert not fingerprint((X + 1).to(dtype), second).equals(second)
    assert not fingerprint(X.half(), second).equals(second)


def test_a_rank_without_rows_agrees():
    first = fingerprint(None, None)
    assert fingerprint(None, first).equals(first)
    assert not fingerprint(X, first).equals(first)


def test_in_a_fit_the_input_is_kept_and_the_record_has_it(tmp_path):
    callback = IntrinsicDimensionCallback(["input", "net.0"], n_samples=60)
    fitted(tmp_path, callback, train=loader(64, seed=3), max_epochs=4, num_sanity_val_steps=0)
    records = callback.history.records
    found = {layer: [r for r in records if r["layer"] == layer] for layer in ("input", "net.0")}
    assert [r["computation"] for r in found["input"]] == [None] * 4 + [KEPT] * 4
    assert {r["computation"] for r in found["net.0"]} == {None}
    assert len({r["value"] for r in found["input"] if r["estimator"] == "twonn"}) == 1
    assert [r["change_previous"] for r in found["input"] if r["estimator"] == "twonn"][1:] == [
        0
    ] * 3
