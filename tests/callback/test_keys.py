"""Metrics logged for one measurement, from results that are written by hand."""

import math

import pytest

from lightning_id.callback.keys import metrics_of
from lightning_id.functional import Change, Estimate
from lightning_id.recording.results import Changes, LayerResult

NAN = math.nan


def result(layer, value, depth=0.5, role=None, **others):
    error = NAN if math.isnan(value) else 0.25
    estimates = {"twonn": Estimate(value, error, value - 0.5, value + 0.5), **others}
    return LayerResult(layer, role, 0, depth, 10, estimates=estimates)


def test_each_estimate_and_its_error_have_a_key():
    metrics = metrics_of([result("fc1", 4.0, pca=Estimate(7.0))], prefix="train_")
    assert metrics["train_id_twonn/fc1"] == 4
    assert metrics["train_id_twonn_se/fc1"] == 0.25
    assert metrics["train_id_pca/fc1"] == 7
    assert "train_id_pca_se/fc1" not in metrics  # PCA has no error bar


def test_the_summary_is_of_the_largest_and_of_the_last_hidden_layer():
    profile = [result("a", 4.0), result("b", 12.0, 0.75), result("c", 3.0, 0.9, "last_hidden")]
    metrics = metrics_of(profile)
    assert {key: metrics[key] for key in metrics if key.startswith("id/")} == {
        "id/peak": 12.0,
        "id/peak_depth": 0.75,
        "id/last_hidden": 3.0,
        "id/last_hidden_low": 2.5,
        "id/last_hidden_high": 3.5,
        "id/peak_over_last": 4.0,
    }


def test_the_peak_has_a_reading_from_above_where_ess_is_measured():
    estimates = {"twonn": Estimate(12.0), "ess": Estimate(20.0)}
    assert (
        metrics_of([LayerResult("a", None, 0, 0.5, 100, estimates=estimates)])["id/peak_high"]
        == 20.0
    )


def test_a_missing_value_has_no_key():
    metrics = metrics_of([result("a", NAN), result("b", 5.0, None)])
    assert metrics == {"id_twonn/b": 5.0, "id_twonn_se/b": 0.25, "id/peak": 5.0}
    assert metrics_of([result("a", NAN)]) == metrics_of([]) == {}


def test_the_change_from_the_first_measurement_has_keys():
    measured = result("a", 4.0)
    measured.changes["twonn"] = Changes(Change(1.5, 0.1), Change(2.5, 0.2), Change(3.5, 0.3))
    metrics = metrics_of([measured])
    assert {key: metrics[key] for key in metrics if "change" in key} == {
        "id_twonn_change/a": 1.5,
        "id_twonn_change_se/a": 0.1,
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((3.0, 5.0, NAN), {"per_class": 4.0, "per_class_sd": math.sqrt(2)}),
        ((3.0,), {"per_class": 3.0}),
        ((NAN,), {}),
    ],
)
def test_mean_and_deviation_are_over_the_classes_with_a_value(values, expected):
    measured = result("a", 9.0)
    measured.per_class = {label: {"twonn": Estimate(value)} for label, value in enumerate(values)}
    metrics = metrics_of([measured])
    assert {k: v for k, v in metrics.items() if "class" in k} == pytest.approx(
        {f"id_twonn_{name}/a": value for name, value in expected.items()}
    )


def test_layers_are_named_as_loggers_take_them():
    assert {"id_twonn/block__1_", "id_twonn/block__1_-2"} <= metrics_of(
        [result("block (1)", 2.0), result("block [1]", 3.0)]
    ).keys()
