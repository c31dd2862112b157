"""The questions about a history: one rule each."""

import math

import pytest

from lightning_id import History
from lightning_id.history import Validation
from lightning_id.history.queries import (
    before_training,
    course,
    describe,
    describe_samples,
    estimators,
    has_several_per_epoch,
    last,
    last_hidden,
    last_of_fit,
    main_estimator,
    metric_names,
    metric_values,
    profile,
    profiles,
    start,
)

BEFORE, FIRST, LAST = ("before_training", 0, 0), ("fit", 0, 10), ("fit", 1, 20)
TEST = ("test", 2, 20)


def measured(*validations, values=(12.0, 14.0, 6.0), history=None, **fields):
    """Return a history of measurements with the same values; its middle layer is last_hidden."""
    history = history or History()
    for stage, epoch, step in validations:
        for order, value in enumerate(values):
            record = {"estimator": "twonn", "data": "val", "depth": order / 2, "n_samples": 100}
            record |= {"role": "last_hidden" if order == 1 else None, "layer": f"layer{order}"}
            record |= {"stage": stage, "epoch": epoch, "step": step, "order": order, "value": value}
            history.append(**record | fields)
    return history


def with_test(*validations):
    return measured(TEST, data="test", history=measured(*validations))


@pytest.mark.parametrize(
    ("history", "newest", "trained", "before", "compared"),
    [
        (with_test(BEFORE, FIRST, LAST), TEST, LAST, BEFORE, BEFORE),
        (with_test(FIRST, LAST), TEST, LAST, None, FIRST),
        (with_test(LAST), TEST, LAST, None, None),
        (with_test(), TEST, TEST, None, None),
        (measured(BEFORE), BEFORE, BEFORE, BEFORE, None),
        (
            measured(BEFORE, ("validate", 0, 0)),
            ("validate", 0, 0),
            ("validate", 0, 0),
            BEFORE,
            BEFORE,
        ),
        (measured(LAST, history=measured(BEFORE, data="probe")), LAST, LAST, None, None),
        (History(), None, None, None, None),
    ],
    ids=["all", "no start", "one and a test", "a test", "untrained", "profiled", "others", "empty"],
)
def test_the_measurements_that_others_are_compared_with(history, newest, trained, before, compared):
    assert last(history) == newest
    assert last_of_fit(history.validations()) == trained
    assert before_training(history) == before
    assert start(history) == compared


def test_the_course_is_of_the_training_or_of_all_if_there_was_none():
    assert course(with_test(BEFORE, FIRST).validations()) == [BEFORE, FIRST]
    assert course(with_test().validations()) == [TEST]


def test_several_measurements_of_an_epoch_are_counted_in_the_fit_only():
    assert not has_several_per_epoch(measured(BEFORE, FIRST, LAST, TEST).validations())
    assert has_several_per_epoch(measured(FIRST, ("fit", 0, 11)).validations())
    assert not has_several_per_epoch(measured(("test", 0, 1), ("test", 0, 2)).validations())


@pytest.mark.parametrize(
    ("validation", "text"),
    [
        (BEFORE, "before training"),
        (LAST, "epoch 2, step 20"),
        (TEST, "test after epoch 2, step 20"),
        (("validate", 0, 0), "validate"),
    ],
)
def test_the_time_of_a_measurement_has_one_wording(validation, text):
    assert describe(validation) == describe(Validation(*validation)) == text


def test_a_profile_has_the_layers_with_value_and_depth_in_order():
    history = measured(LAST, values=(12.0, math.nan, 6.0))
    measured(LAST, values=(1.0,), layer="never called", depth=None, history=history)
    measured(LAST, values=(1.0,), label="3", history=history)
    assert [(r["layer"], r["value"]) for r in profile(history)] == [("layer0", 12), ("layer2", 6)]
    assert profile(history, estimator="pca") == profile(history, Validation(*FIRST)) == []
    assert profiles(measured(FIRST, values=(math.nan,)), "twonn") == {}
    assert profile(History()) == []


def test_of_a_layer_that_was_measured_twice_the_later_record_counts():
    history = measured(LAST, values=(1.0, 2.0, 3.0), history=measured(LAST))
    assert [r["value"] for r in profile(history)] == [1, 2, 3]


def test_the_last_hidden_layer_has_its_role():
    assert last_hidden(profile(measured(LAST)))["layer"] == "layer1"
    assert last_hidden(profile(measured(LAST, role=None))) is None


def test_twonn_is_shown_first_unless_only_others_were_measured():
    history = measured(LAST, estimator="pca")
    assert main_estimator(history) == "pca"
    measured(LAST, history=history)
    assert estimators(history) == ["pca", "twonn"]
    assert main_estimator(history) == main_estimator(History()) == "twonn"


def test_a_metric_has_its_finite_values():
    history = History()
    for step, value in ((1, 0.5), (2, math.nan), (3, 0.7)):
        history.append_metrics(("fit", 0, step), {"val_acc": value, "val_loss": 1.0})
    assert metric_names(history) == ["val_acc", "val_loss"]
    assert metric_values(history, "val_acc") == {("fit", 0, 1): 0.5, ("fit", 0, 3): 0.7}


def test_the_samples_of_records_are_counted_and_named():
    history = measured(LAST)
    assert describe_samples(history.records) == "100 samples of val"
    measured(LAST, n_samples=7, data="train", history=history)
    assert describe_samples(history.records) == "7 to 100 samples of val, train"
    assert describe_samples([]) == ""
