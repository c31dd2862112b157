"""Checks of a configuration before a fit, without one."""

import pytest
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from lightning_id import AtSteps, EveryNValidations, IntrinsicDimensionCallback, LogSpaced
from lightning_id.callback.settings import (
    check_arguments,
    check_layers,
    check_prefixes,
    configuration_warnings,
)
from tests.toys import Toy, trainer


def warned(folder, schedule, monitor="id/last_hidden", max_overhead=None, prefix=""):
    callbacks = [EarlyStopping(monitor), ModelCheckpoint(folder, monitor="val_acc")]
    runner = trainer(folder, callbacks=callbacks, enable_checkpointing=True)
    return list(configuration_warnings(runner, schedule, prefix, max_overhead))


@pytest.mark.parametrize(
    ("schedule", "max_overhead", "text"),
    [
        (EveryNValidations(2), None, "reads the old value again"),
        (EveryNValidations(1), 0.5, "(EveryNValidations(n=1), max_overhead=0.5)"),
        (AtSteps([2]), None, "it never reads measurements made between steps"),
        (LogSpaced(), None, "Measure at validations"),
    ],
)
def test_a_monitor_that_reads_no_new_value_at_each_validation_is_named(
    schedule, max_overhead, text, tmp_path
):
    (found,) = [
        each
        for each in warned(tmp_path, schedule, max_overhead=max_overhead)
        if "nothing is measured" not in each
    ]
    assert found.startswith("EarlyStopping monitors 'id/last_hidden', which is not measured at")
    assert text in found


@pytest.mark.parametrize(
    ("schedule", "monitor", "prefix"),
    [
        (EveryNValidations(1), "id/last_hidden", ""),
        (EveryNValidations(2), "idle", ""),
        (EveryNValidations(2), "id_twonn/fc1", "train/"),
    ],
)
def test_other_monitors_are_not_named(schedule, monitor, prefix, tmp_path):
    assert "monitors" not in " ".join(warned(tmp_path, schedule, monitor, prefix=prefix))


def test_a_fit_without_validations_is_warned_about_unless_steps_are_measured(tmp_path):
    (text,) = warned(tmp_path, EveryNValidations(1))
    assert text.startswith("nothing is measured: EveryNValidations(n=1) waits for validations")
    assert warned(tmp_path, AtSteps([1]), monitor="val_acc") == []


def test_two_callbacks_of_one_prefix_are_refused():
    check_prefixes("a", ["", "a"])
    with pytest.raises(ValueError, match=r"`prefix`: expected one for each .* got 'a' twice"):
        check_prefixes("a", ["a", "a"])


def test_a_rule_for_a_layer_that_is_not_measured_is_refused():
    def check(sample_dim):
        callback = IntrinsicDimensionCallback({"net.5": "fc1"}, sample_dim=sample_dim)
        check_layers(callback._settings, Toy())

    check({"fc1": 1, "input": 0, "last_hidden": 0})
    check(1)
    with pytest.raises(ValueError, match=r"`sample_dim`: expected names of .* got fc2; they are"):
        check({"fc1": 1, "fc2": 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sample_dim": {"net.5": 1}},
            "`sample_dim`: expected names of measured layers, got net.5",
        ),
        ({"rows_per_sample": {"net.5": "all"}}, "`rows_per_sample`: expected names of measured"),
        ({"last_hidden": "net.50"}, "No layer of Toy matches 'net.50'"),
    ],
)
def test_layers_and_the_rules_for_them_are_checked_on_the_module(options, message):
    settings = IntrinsicDimensionCallback({"net.0": "first"}, **options)._settings
    with pytest.raises(ValueError, match=message):
        check_layers(settings, Toy())
    check_layers(IntrinsicDimensionCallback(["net.5"], sample_dim={"net.5": 0})._settings, Toy())


@pytest.mark.parametrize(
    ("argument", "value", "text"),
    [
        ("estimators", "twonn", "expected a list of names, got 'twonn'"),
        ("estimators", 3, "expected a list of names, got 3"),
        ("schedule", EveryNValidations, "got the class EveryNValidations"),
        ("schedule", 2, "expected a Schedule or None, got 2"),
        ("last_hidden", 4, "expected a name or None, got 4"),
        ("prefix", None, "expected a string, got None"),
    ],
)
def test_an_argument_of_a_wrong_type_is_refused(argument, value, text):
    arguments = {"estimators": ["twonn"], "schedule": None, "last_hidden": None, "prefix": ""}
    check_arguments(**arguments)
    with pytest.raises(ValueError, match=f"^`{argument}`: .*{text}"):
        check_arguments(**(arguments | {argument: value}))


def test_a_class_in_place_of_a_callback_is_named_when_a_trainer_reads_its_key():
    with pytest.raises(AttributeError, match="got the class IntrinsicDimensionCallback; write"):
        IntrinsicDimensionCallback.state_key  # noqa: B018
    assert "prefix" in IntrinsicDimensionCallback().state_key
