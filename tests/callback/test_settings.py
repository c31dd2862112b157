"""Arguments of the callback, its sample sets, and checks before a fit."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from lightning_id import AtSteps, EveryNValidations, History, IntrinsicDimensionCallback, LogSpaced
from lightning_id.callback.settings import (
    SMALLEST_CLASS,
    Settings,
    check_arguments,
    check_layers,
    check_prefixes,
    configuration_warnings,
    sample_sets,
)
from lightning_id.history.queries import by_validation
from lightning_id.recording.processes import SingleProcess
from lightning_id.report import write_report
from tests.quick import draw_quickly
from tests.toys import Toy, count_hooks, loader, trainer, validated


def test_a_limit_is_of_gibibytes_on_the_device_and_on_the_host():
    assert Settings(memory_limit=1.5).options.limits == (3 * 2**29, 3 * 2**29)
    for free in (None, "auto"):
        assert Settings(memory_limit=free).options.limits == (None, None)
    with pytest.raises(ValueError, match="`memory_limit`: expected GiB above 0, got -1"):
        Settings(memory_limit=-1)


@pytest.mark.parametrize(("given", "least"), [(False, None), (True, SMALLEST_CLASS), (30, 30)])
def test_classes_are_off_of_a_hundred_or_of_as_many_as_given(given, least):
    assert Settings(per_class=given).options.smallest_class == least


def test_a_class_of_two_is_too_small():
    with pytest.raises(ValueError, match="`per_class`: expected at least 3, got 2; TwoNN needs"):
        Settings(per_class=2)


def test_a_named_last_hidden_layer_takes_the_place_of_the_pseudo_layer():
    named = IntrinsicDimensionCallback(["net.5", "last_hidden"], last_hidden="net.3")._settings
    assert named.select(Toy()) == ({"net.5": "net.5", "net.3": "net.3"}, "net.3")
    shown = IntrinsicDimensionCallback({"net.3": "third"}, last_hidden="net.3")._settings
    assert shown.select(Toy()) == ({"net.3": "third"}, "third")
    plain = IntrinsicDimensionCallback(["net.5"])._settings
    assert plain.select(Toy()) == ({"net.5": "net.5"}, None)


@pytest.mark.parametrize(
    ("layers", "may_project"), [("auto", True), (["!net.0"], True), (["net.5"], False)]
)
def test_without_a_limit_rows_take_free_memory_and_chosen_layers_are_not_projected(
    layers, may_project
):
    settings = IntrinsicDimensionCallback(layers)._settings
    options = settings.options_of(Toy(), SingleProcess())
    assert options.limits.host > 2**20
    assert options.may_project is may_project
    limited = IntrinsicDimensionCallback(layers, memory_limit=1)._settings
    options = limited.options_of(Toy(), SingleProcess())
    assert options.limits == (2**30, 2**30)
    assert not options.may_project


# Several sample sets in one callback: each measured by itself, one history, keys with a prefix


LAYERS = ["input", "net.5"]


def fit(folder, *callbacks, **options):
    pl.seed_everything(5, verbose=False)
    runner = trainer(folder, callbacks=list(callbacks), num_sanity_val_steps=-1, **options)
    model = Toy()
    runner.fit(model, loader(64, seed=3, shuffle=True), loader(60, seed=1))
    assert count_hooks(model) == 0
    return model, runner


def records(callback, data):
    """Return the numbers of a set, without the columns that differ between instances."""
    return [
        {k: v for k, v in r.items() if k != "seconds"}
        for r in callback.history.records
        if r["data"] == data
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    callback = IntrinsicDimensionCallback(LAYERS, n_samples=40, data=("val", "train"))
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        draw_quickly(patch)
        model, runner = fit(folder, callback, logger=CSVLogger(folder))
    return callback, model, runner


@pytest.mark.parametrize("data", ["val", "train"])
def test_each_set_has_the_numbers_of_an_instance_of_its_own(data, both, tmp_path):
    alone = IntrinsicDimensionCallback(LAYERS, n_samples=40, data=[data])
    fit(tmp_path, alone)
    assert len(records(alone, data)) == 3 * 3 * 2  # measurements, layers, estimators
    assert str(records(both[0], data)) == str(records(alone, data))


def test_keys_of_every_set_but_the_first_begin_with_its_name(both):
    callback, _, runner = both
    logged = {key: float(value) for key, value in runner.callback_metrics.items()}
    last = {
        (r["data"], r["layer"]): r["value"]
        for r in callback.history.records
        if r["estimator"] == "twonn"
    }
    assert logged["id_twonn/net.5"] == pytest.approx(last["val", "net.5"])
    assert logged["train_id_twonn/net.5"] == pytest.approx(last["train", "net.5"])
    assert {key.removeprefix("train_") for key in callback.last_metrics} == {
        key for key in callback.last_metrics if not key.startswith("train_")
    }


def test_one_file_holds_all_sets_and_no_metric_of_ours_is_one_of_the_user(both):
    callback, _, runner = both
    history = History.load(runner.log_dir)
    assert str(history.records) == str(callback.history.records)
    assert not [m["name"] for m in history.metrics if "id" in m["name"]]


def test_a_history_shows_one_set_at_a_time(both):
    history = both[0].history
    assert history.sample_sets() == ["val", "train"]
    assert {r["data"] for v in history.validations() for r in history.at(v, "twonn")} == {"val"}
    for name in ("val", "train"):
        of_set = history.of_set(name)
        assert {r["data"] for r in of_set.records} == {name}
        assert {r["data"] for rs in by_validation(of_set, "twonn").values() for r in rs} == {name}


def test_each_set_keeps_its_spectra_and_a_test_replaces_none(both):
    callback, _, _ = both
    first, *_, last = callback.history.validations()
    kept = {name: callback.history.of_set(name).spectra for name in ("val", "train")}
    assert [list(each) for each in kept.values()] == [[first, last]] * 2
    assert not torch.equal(kept["val"][last]["net.5"], kept["train"][last]["net.5"])
    callback.history.keep_spectra(("test", 2, 8), {"net.5": torch.ones(1)}, "test")
    assert list(callback.history.spectra) == [first, last]


def test_a_report_has_every_set(both, tmp_path, monkeypatch):
    draw_quickly(monkeypatch)
    page = write_report(both[2].log_dir, tmp_path / "report.md", "markdown").read_text()
    assert "(val)" in page
    assert "(train)" in page
    html = write_report(both[2].log_dir, tmp_path / "report.html").read_text()
    assert "Last hidden layer over training" in html


def test_figures_of_each_set_have_its_prefix_and_one_shows_the_last_hidden_layer_of_all(both):
    drawn = {path.name for path in Path(both[2].log_dir).rglob("*.png")}
    assert drawn == {
        "depth_profile.png",
        "heat_map.png",
        "last_hidden_over_time.png",
        "layers_over_time.png",
    }
    assert (Path(both[2].log_dir) / "train_id" / "depth_profile.png").exists()
    assert (Path(both[2].log_dir) / "id" / "last_hidden_over_time.png").exists()


def test_the_training_is_the_same_to_the_last_bit(both, tmp_path):
    plain, _ = fit(tmp_path)
    for name, value in plain.state_dict().items():
        assert torch.equal(both[1].state_dict()[name], value), name


def test_loaders_by_name_between_steps(tmp_path):
    sets = {"val": "val", "held_out": loader(80, seed=9)}
    callback = IntrinsicDimensionCallback(LAYERS, data=sets, schedule=AtSteps([0, 2]), n_samples=40)
    fit(tmp_path, callback)
    assert [r["data"] for r in callback.history.records] == (["val"] * 6 + ["held_out"] * 6) * 2
    assert "held_out_id/last_hidden" in callback.last_metrics


def test_outside_a_fit_the_running_set_is_measured(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, data=("train", "val"), n_samples=40)
    runner = validated(tmp_path, callback, model=Toy(), data=loader(60, seed=1))
    assert {key.startswith("val_id") for key in callback.last_metrics} == {True}
    runner.test(Toy(), loader(60, seed=1), verbose=False)
    assert {key.startswith("id") for key in callback.last_metrics} == {True}
    assert list(dict.fromkeys(r["data"] for r in callback.history.records)) == ["val", "test"]


def test_a_set_that_fails_does_not_stop_the_other(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, data={"val": "val", "bad": [None]}, n_samples=40)
    with pytest.warns(UserWarning, match="could not pass the samples"):
        fit(tmp_path, callback)
    assert {r["data"] for r in callback.history.records} == {"val"}
    assert len(callback.history.validations()) == 3


@pytest.mark.parametrize("probe", ["train", "loader"])
def test_probe_is_a_deprecated_spelling(probe, tmp_path):
    value = loader(50, seed=9) if probe == "loader" else probe
    with pytest.warns(FutureWarning, match=r"`probe` is deprecated .*; use data="):
        old = IntrinsicDimensionCallback(LAYERS, probe=value, n_samples=40)
    name = "probe" if probe == "loader" else probe
    new = IntrinsicDimensionCallback(LAYERS, data={name: value}, n_samples=40)
    fit(tmp_path, old)
    fit(tmp_path, new)
    assert str(records(old, name)) == str(records(new, name)) != "[]"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("val", "expected a list of 'val' and 'train', or names and loaders, got 'val'"),
        ((), "expected a list"),
        (("val", "val"), "expected every set once"),
        (("val", "test"), "expected a DataLoader, 'train' or 'val', got 'test'"),
        ({"a b": "val"}, "expected names of letters"),
        ({"test": loader()}, "expected another name than 'test'"),
        ({"mine": loader().dataset}, "makes one of a data set"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_that_names_no_sets_is_refused(data, message):
    with pytest.raises(ValueError, match=f"^`data`: .*{message}"):
        sample_sets(data)


# --- checks of a configuration before a fit, without one ------------------------------------------


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
