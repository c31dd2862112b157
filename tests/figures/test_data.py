"""Plot data: choices, names, times, and why something is missing."""

import itertools

import pytest

from lightning_id import History
from lightning_id.figures._data import (
    Clock,
    band,
    escape_mathtext,
    explain_missing,
    explain_missing_metric,
    is_skewed,
    short_names,
    shortened,
    subsample_evenly,
    tick_positions,
)
from lightning_id.history import Validation


def history_of(**fields):
    history = History()
    history.append(
        **{"stage": "fit", "epoch": 0, "step": 1, "layer": "fc", "estimator": "twonn"} | fields
    )
    return history


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 1000])
def test_an_even_choice_has_the_first_and_the_last_and_no_more_than_asked(count):
    chosen = subsample_evenly(range(count), 8)
    assert len(chosen) == min(count, 8)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    steps = [b - a for a, b in itertools.pairwise(chosen)]
    assert not steps or max(steps) - min(steps) <= 1
    assert len(tick_positions(count, 8)) <= 8


def test_a_dollar_sign_begins_no_formula():
    assert escape_mathtext("a$b") == r"a\$b"


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (1.0, 3.0, (1.0, 3.0)),
        (None, None, None),
        (float("nan"), 3.0, None),
        (1.0, float("inf"), None),
    ],
)
def test_a_band_has_two_finite_ends(low, high, found):
    (record,) = history_of(value=2.0, low=low, high=high).records
    assert band(record) == found


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"value": 2.0}, "No layer with a twonn estimate has a depth."),
        (
            {"reason": "too few rows"},
            "No layer has a twonn estimate. Reasons: too few rows (1 times).",
        ),
        ({}, "No layer has a twonn estimate. No reason was recorded."),
        ({"estimator": "pca", "value": 2.0}, "twonn was not measured; there is pca."),
    ],
)
def test_the_cause_of_an_empty_figure_is_named(fields, text):
    assert explain_missing(history_of(**fields), "twonn") == text


def test_an_empty_history_and_a_missing_metric_are_named():
    assert explain_missing(History(), "twonn") == "Nothing was measured."
    assert explain_missing_metric(History(), "val_acc").endswith("logged: nothing.")


def test_time_is_in_epochs_unless_an_epoch_has_several_measurements():
    before, first = Validation("before_training", 0, 0), Validation("fit", 0, 10)
    epochs = Clock.of([before, first, Validation("fit", 1, 20)])
    assert (epochs.name, epochs.time(before), epochs.time(first)) == ("epochs trained", 0, 1)
    steps = Clock.of([before, first, Validation("fit", 0, 15)])
    assert (steps.name, steps.time(before), steps.time(first)) == ("training step", 0, 10)


def test_times_that_crowd_at_the_beginning_are_skewed():
    assert is_skewed([0, 1, 2, 5, 100])
    assert not is_skewed([0, 1, 2, 3, 4])
    assert not is_skewed([])


@pytest.mark.parametrize("most", [3, 4, 16])
def test_a_name_is_cut_to_length_with_more_of_its_end(most):
    text = shortened("encoder.stages.3.blocks.17", most)
    assert len(text) == most
    assert text.endswith("7")
    assert shortened("short"[:most], most) == "short"[:most]


def test_names_stay_distinct_when_they_are_cut():
    layers = [f"a.{'x' * 40}.{i}.{'y' * 40}" for i in range(3)]
    names = short_names(layers)
    assert len(set(names.values())) == 3
    assert max(map(len, names.values())) <= 16
