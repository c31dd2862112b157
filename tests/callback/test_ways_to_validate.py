"""The callback under every way in which Lightning runs a validation."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.tuner import Tuner
from pytorch_lightning.utilities import CombinedLoader
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_id import (
    AtSteps,
    EveryNValidations,
    History,
    IntrinsicDimensionCallback,
    LogSpaced,
)
from lightning_id.functional import twonn_dimension
from lightning_id.recording.samples import choose_samples
from tests.toys import Toy, count_hooks, fitted, loader, toy_data, trainer

LAYERS = ["input", "net.5"]


def input_of(history):
    """Return the TwoNN dimension of the input at every measured validation."""
    return [
        r["value"] for r in history.records if (r["layer"], r["estimator"]) == ("input", "twonn")
    ]


def expected_input(n, seed, n_samples=2000):
    rows = toy_data(n, seed).tensors[0].flatten(1)
    return twonn_dimension(rows[choose_samples(n, n_samples, 0)]).value


def fit(folder, callback, val, model=None, **kwargs):
    model = model or Toy()
    runner = fitted(folder, callback, model=model, val=val, **kwargs)
    return runner, model


@pytest.mark.parametrize("function", ["validate", "test"])
def test_validate_and_test_are_measured_and_noted(tmp_path, function):
    callback = IntrinsicDimensionCallback(LAYERS)
    runner = trainer(tmp_path, callbacks=[callback])
    (logged,) = getattr(runner, function)(Toy(), loader(50, seed=2), verbose=False)
    assert callback.history.validations() == [(function, 0, 0)]
    assert input_of(callback.history) == [pytest.approx(expected_input(50, 2))]
    assert logged["id_twonn/input"] == pytest.approx(expected_input(50, 2))


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        ({"val_check_interval": 0.5}, [2, 5, 9, 12]),
        ({"val_check_interval": 5, "check_val_every_n_epoch": None}, [4, 9]),
        ({"check_val_every_n_epoch": 2}, [13]),
    ],
)
def test_every_validation_of_a_run_is_measured(tmp_path, how, steps):
    callback = IntrinsicDimensionCallback(LAYERS)
    fit(tmp_path, callback, loader(60), **how)
    assert [step for _, _, step in callback.history.validations()] == steps


def test_a_part_of_the_validation_set_is_measured_when_only_a_part_is_validated(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS)
    fit(tmp_path, callback, loader(60, seed=1), limit_val_batches=2, max_epochs=1)
    rows = toy_data(60, 1).tensors[0][:32].flatten(1)
    assert input_of(callback.history) == [pytest.approx(twonn_dimension(rows).value)]


def test_of_several_loaders_the_chosen_one_is_measured(tmp_path):
    class Several(Toy):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            super().validation_step(batch, batch_idx)

    for chosen, (n, seed) in enumerate([(60, 1), (44, 2)]):
        callback = IntrinsicDimensionCallback(LAYERS, dataloader_idx=chosen)
        val = [loader(60, seed=1), loader(44, seed=2)]
        fit(tmp_path, callback, val, model=Several(), max_epochs=1)
        assert input_of(callback.history) == [pytest.approx(expected_input(n, seed))]


@pytest.mark.parametrize("n_sanity", [0, 2, -1])
@pytest.mark.filterwarnings("ignore:.*could not prepare")
def test_a_loader_that_does_not_exist_fails_before_the_first_step(n_sanity, tmp_path):
    steps = []

    class Counting(Toy):
        def training_step(self, batch, batch_idx):
            steps.append(batch_idx)

    callback = IntrinsicDimensionCallback(LAYERS, dataloader_idx=3)
    with pytest.raises(ValueError, match="`dataloader_idx`: expected 0 to 0"):
        fit(tmp_path, callback, loader(60), Counting(), num_sanity_val_steps=n_sanity)
    assert not steps


def test_loaders_combined_into_one_batch_are_measured_by_a_reservoir(tmp_path):
    class TwoViews(Toy):
        def validation_step(self, batch, batch_idx):
            if batch["a"] is not None:
                super().validation_step(batch["a"], batch_idx)

    val = CombinedLoader({"a": loader(60, seed=1), "b": loader(44, seed=2)}, "max_size")
    callback = IntrinsicDimensionCallback(LAYERS)
    with pytest.warns(UserWarning, match="reservoir"):
        fit(tmp_path, callback, val, model=TwoViews(), max_epochs=1)
    assert input_of(callback.history) == [pytest.approx(expected_input(60, 1))]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([tuple(pair) for pair in zip(*toy_data(70, 3).tensors, strict=True)])


def test_a_stream_is_measured_by_the_same_reservoir_every_time_and_the_record_notes_it(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, n_samples=25)
    with pytest.warns(UserWarning, match="stream of unknown length"):
        fit(tmp_path, callback, DataLoader(Stream(), batch_size=16))
    first, second = input_of(callback.history)
    assert first == second
    assert {r["n_samples"] for r in callback.history.records} == {25}
    assert all("reservoir" in r["note"] for r in callback.history.records)


def test_a_shuffled_loader_is_measured_and_the_record_notes_it(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, n_samples=25)
    with pytest.warns(UserWarning, match="the loader shuffles"):
        fit(tmp_path, callback, loader(60, shuffle=True))
    assert all("shuffles" in r["note"] for r in callback.history.records)


def test_fast_dev_run_writes_nothing_and_does_not_fail(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS)
    fit(tmp_path, callback, loader(60), fast_dev_run=True, logger=CSVLogger(tmp_path))
    assert input_of(callback.history)
    assert not list(tmp_path.rglob("history.csv"))


@pytest.mark.filterwarnings("ignore:.*barebones")
def test_barebones_switches_it_off(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS)
    model = Toy()
    runner = pl.Trainer(
        barebones=True,
        callbacks=[callback],
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=tmp_path,
    )
    runner.fit(model, loader(), loader(60))
    assert not callback.history.records
    assert count_hooks(model) == 0


def test_without_a_logger_the_numbers_are_still_there_to_monitor(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS)
    runner, _ = fit(tmp_path, callback, loader(60), logger=False)
    assert "id_twonn/input" in runner.callback_metrics
    assert not list(tmp_path.rglob("history.csv"))


def test_inference_mode_on_or_off_makes_no_difference(tmp_path):
    seen = []
    for mode in (True, False):
        pl.seed_everything(0, verbose=False)
        callback = IntrinsicDimensionCallback()
        fit(tmp_path, callback, loader(60), inference_mode=mode)
        seen.append([r["value"] for r in callback.history.records if r["estimator"] == "twonn"])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 10


def test_layers_that_configure_model_makes_are_found(tmp_path):
    class Late(Toy):
        def __init__(self):
            super().__init__()
            self.net = None

        def configure_model(self):
            if self.net is None:
                self.net = Toy().net

    callback = IntrinsicDimensionCallback(LAYERS)
    fit(tmp_path, callback, loader(60), model=Late())
    assert {r["layer"] for r in callback.history.records} == {"input", "net.5", "last_hidden"}


def test_two_instances_log_under_their_prefixes_and_share_a_checkpoint(tmp_path):
    few = IntrinsicDimensionCallback(LAYERS, n_samples=20, prefix="few_")
    all_ = IntrinsicDimensionCallback(LAYERS)
    runner = fitted(tmp_path, few, all_)
    assert runner.callback_metrics["few_id_twonn/input"] == pytest.approx(expected_input(60, 1, 20))
    assert runner.callback_metrics["id_twonn/input"] == pytest.approx(expected_input(60, 1))
    runner.save_checkpoint(tmp_path / "both.ckpt")
    saved = torch.load(tmp_path / "both.ckpt", weights_only=True)["callbacks"]
    assert saved[few.state_key]["records"][0]["n_samples"] == 20
    assert saved[all_.state_key]["records"][0]["n_samples"] == 60


def test_two_instances_keep_all_their_records_in_folders_of_their_own(tmp_path):
    few = IntrinsicDimensionCallback(LAYERS, n_samples=20, prefix="few/", charts=False)
    all_ = IntrinsicDimensionCallback(LAYERS, charts=False)
    runner = fitted(tmp_path, few, all_, logger=CSVLogger(tmp_path))
    for callback, folder in ((all_, runner.log_dir), (few, f"{runner.log_dir}/few")):
        written = History.load(folder)
        assert written.validations() == callback.history.validations()
        assert str(written.records) == str(callback.history.records)
        assert {metric["name"] for metric in written.metrics} == {"train_loss", "val_acc"}


def test_two_instances_of_one_prefix_fail_before_anything_is_trained(tmp_path):
    callbacks = [IntrinsicDimensionCallback(["input"]), IntrinsicDimensionCallback(["net.5"])]
    with pytest.raises(ValueError, match=r"`prefix`: expected one for each .*, got '' twice"):
        fitted(tmp_path, *callbacks, val=loader(60))


@pytest.mark.parametrize("finder", ["lr_find", "scale_batch_size"])
def test_finding_a_learning_rate_or_batch_size_measures_nothing(finder, tmp_path):
    class Tuned(Toy):
        lr = 0.1
        batch_size = 8

        def train_dataloader(self):
            return loader(batch_size=self.batch_size)

        def val_dataloader(self):
            return loader(60)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    callback = IntrinsicDimensionCallback(LAYERS)
    model = Tuned()
    runner = trainer(tmp_path, callbacks=[callback], enable_checkpointing=True)
    few = {"num_training": 5} if finder == "lr_find" else {"max_trials": 2}
    getattr(Tuner(runner), finder)(model, **few)
    assert not callback.history.records
    assert count_hooks(model) == 0
    runner.fit(model)
    assert len(callback.history.validations()) == 2


def test_a_monitor_of_measurements_between_steps_warns_that_it_never_reads_them(tmp_path):
    saver = ModelCheckpoint(tmp_path / "ckpt", monitor="id_twonn/net.5")
    callback = IntrinsicDimensionCallback(LAYERS, schedule=AtSteps([2]))
    # Lightning's own message comes after an epoch, and does not say why.
    with (
        pytest.warns(UserWarning, match="ModelCheckpoint monitors .*: it never reads"),
        pytest.raises(MisconfigurationException, match="could not find the monitored key"),
    ):
        fitted(tmp_path, callback, saver, val=loader(60), enable_checkpointing=True)


@pytest.mark.parametrize("schedule", [AtSteps([0, 3, 9]), EveryNValidations(2)])
def test_the_metrics_are_of_the_validations_at_their_own_steps(schedule, tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, schedule=schedule, charts=False)
    seen = []

    class Watching(Toy):
        def on_validation_end(self):
            seen.append((self.current_epoch, float(self.trainer.callback_metrics["val_acc"])))

    runner = fitted(tmp_path, callback, model=Watching(), logger=CSVLogger(tmp_path), max_epochs=3)
    for history in (callback.history, History.load(runner.log_dir)):
        found = [m for m in history.metrics if m["name"] == "val_acc"]
        assert [(m["epoch"], m["value"]) for m in found] == seen
        assert [m["step"] for m in found] == [6, 13, 20]


def test_a_metric_whose_name_begins_alike_is_not_taken_for_ours(tmp_path, recwarn):
    class Other(Toy):
        def validation_step(self, batch, batch_idx):
            self.log("identity_loss", batch[0].sum())

    callback = IntrinsicDimensionCallback(LAYERS, schedule=EveryNValidations(2))
    stopping = EarlyStopping("identity_loss", patience=5)
    fitted(tmp_path, callback, stopping, model=Other(), val=loader(60))
    assert not [w for w in recwarn if "monitors" in str(w.message)]


class NoStep(Toy):
    validation_step = None


@pytest.mark.parametrize(
    ("model", "val", "options"),
    [(Toy, False, {}), (NoStep, True, {}), (Toy, True, {"limit_val_batches": 0})],
)
def test_a_fit_without_a_validation_warns_that_nothing_is_measured(model, val, options, tmp_path):
    def run(callback):
        fitted(
            tmp_path,
            callback,
            model=model(),
            val=loader(60) if val else None,
            max_epochs=1,
            **options,
        )
        return len(callback.history.records)

    with pytest.warns(UserWarning, match="nothing is measured: EveryNValidations"):
        assert run(IntrinsicDimensionCallback(LAYERS, data=["train"])) == 0
    # What the message advises does measure.
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*nothing is measured.*")
        assert run(IntrinsicDimensionCallback(LAYERS, data=["train"], schedule=LogSpaced())) > 0


def test_between_steps_without_a_loader_the_train_loader_is_named(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, schedule=LogSpaced())
    with pytest.warns(UserWarning, match="expected a val loader, got none; .* or 'train'"):
        fitted(tmp_path, callback, val=None, max_epochs=1)


def test_an_axis_for_a_layer_that_is_not_measured_fails_before_anything_is_trained(tmp_path):
    callback = IntrinsicDimensionCallback(["net.5"], sample_dim={"net.6": 1})
    with pytest.raises(
        ValueError, match=r"expected names of measured layers, got net\.6; they are"
    ):
        fitted(tmp_path, callback, val=loader(60))


def test_a_module_called_twice_a_batch_is_measured_at_its_first_call_and_noted(tmp_path):
    class Twice(Toy):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            self.net(batch[0] * 0)

    plain, twice = (IntrinsicDimensionCallback(["net.5"]) for _ in range(2))
    pl.seed_everything(0, verbose=False)
    fit(tmp_path, plain, loader(60), model=Toy())
    pl.seed_everything(0, verbose=False)
    with pytest.warns(UserWarning, match="called 2 times"):
        fit(tmp_path, twice, loader(60), model=Twice())
    assert [r["value"] for r in twice.history.records] == [
        r["value"] for r in plain.history.records
    ]


def test_a_layer_that_is_never_called_is_listed_with_the_likely_cause(tmp_path):
    class Spare(Toy):
        def __init__(self):
            super().__init__()
            self.spare = nn.Linear(2, 2)

    callback = IntrinsicDimensionCallback(["net.5", "spare"])
    with pytest.warns(UserWarning, match="layer 'spare': .*never called"):
        fit(tmp_path, callback, loader(60), model=Spare(), max_epochs=1)
    assert [r["depth"] for r in callback.history.records if r["layer"] == "spare"] == [None, None]
