"""Outputs of a callback by themselves: a real Trainer and real loggers, and no fit."""

import csv
import math

import pytest
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from lightning_id import EveryNValidations, History, IntrinsicDimensionCallback, LogSpaced
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.outputs import MANY_KEYS, Outputs
from lightning_id.callback.running import Moment
from lightning_id.callback.schedule import Budget
from lightning_id.history import BEFORE_TRAINING, Validation
from tests.toys import Toy, fitted, loader, trainer

METRICS = {"id/last_hidden": 5.0, "id_twonn/fc1": 6.0}


class Down(CSVLogger):
    """A logger whose server cannot be reached."""

    def log_metrics(self, *args, **kwargs):
        raise ConnectionError("no route")


def history_of(stage="fit"):
    history = History()
    history.append(
        stage=stage, epoch=0, step=9, layer="fc1", depth=0.5, estimator="twonn", value=6.0
    )
    return history


def outputs_of(history, prefix="", on_error="warn", draws=False):
    failures = FailurePolicy(on_error, "Callback")
    return Outputs(history, prefix, draws, True, Budget(None, failures), failures)


def moment(stage="fit", in_validation=True):
    return Moment(Validation(stage, 0, 9), in_validation)


def with_metrics(runner, **metrics):
    """Log metrics as a Trainer that has just validated holds them."""
    runner._logger_connector._callback_metrics = {k: torch.tensor(v) for k, v in metrics.items()}
    return runner


def logged(logger):
    logger.save()
    with open(logger.experiment.metrics_file_path) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("at", "is_logged"),
    [
        (moment(), False),  # Lightning logs it with the metrics of the validation
        (moment(in_validation=False), True),
        (moment(BEFORE_TRAINING), True),
    ],
    ids=["validation", "between steps", "sanity check"],
)
def test_loggers_are_called_where_lightning_drops_metrics(at, is_logged, tmp_path):
    logger = CSVLogger(tmp_path)
    outputs_of(history_of()).after(trainer(tmp_path, logger=logger), at, {}, METRICS, ours=())
    if is_logged:
        (row,) = logged(logger)
        assert (row["step"], float(row["id/last_hidden"])) == ("9", 5.0)
    else:
        assert not logger.experiment.metrics


def test_a_logger_that_is_down_stops_no_other_output(tmp_path):
    good = CSVLogger(tmp_path / "good")
    runner = trainer(tmp_path, logger=[Down(tmp_path / "down"), good])
    history = history_of()
    with pytest.warns(UserWarning, match="Callback could not log to Down; .*no route"):
        outputs_of(history).after(runner, moment(in_validation=False), {}, METRICS, ours=())
    assert len(logged(good)) == 1
    assert len(History.load(runner.log_dir).records) == 1


def test_files_are_appended_to_in_the_folder_of_the_prefix(tmp_path):
    runner, history = trainer(tmp_path, logger=CSVLogger(tmp_path)), history_of()
    outputs = outputs_of(history, prefix="train/")
    for n in (1, 2):
        outputs.after(with_metrics(runner, val_acc=0.5 * n), moment(), {}, METRICS, ours=())
        history.records += history_of().records
    written = History.load(f"{runner.log_dir}/train")
    assert len(written.records) == 2
    assert [m["value"] for m in written.metrics] == [0.5, 1.0]


def test_metrics_of_the_user_are_kept_in_order_and_the_ones_of_callbacks_are_not(tmp_path):
    history = history_of()
    names = [f"metric_{i}" for i in range(20)]
    runner = with_metrics(trainer(tmp_path), **dict.fromkeys(names, 1.0), **METRICS)
    outputs_of(history, on_error="raise").after_unmeasured(runner, moment().validation, METRICS)
    assert [metric["name"] for metric in history.metrics] == names


def test_metrics_before_the_first_measurement_are_not_kept(tmp_path):
    history = History()
    runner = with_metrics(trainer(tmp_path), val_acc=0.5)
    outputs_of(history).after_unmeasured(runner, moment().validation, ())
    assert history.metrics == []


def test_without_a_logger_it_is_reported_once_that_no_file_is_written(tmp_path, caplog):
    outputs, runner = outputs_of(history_of()), trainer(tmp_path)
    with caplog.at_level("INFO"):
        for _ in range(2):
            outputs.after(runner, moment(), {}, METRICS, ours=())
    assert caplog.text.count("No logger, no history.csv") == 1
    assert not list(tmp_path.rglob("history.csv"))


@pytest.mark.parametrize("fast", [True, False])
def test_a_trial_run_leaves_no_files(fast, tmp_path):
    runner = trainer(tmp_path, logger=CSVLogger(tmp_path), fast_dev_run=fast)
    outputs_of(history_of(), draws=True).after(runner, moment(), {}, METRICS, ours=())
    assert bool(list(tmp_path.rglob("history.csv"))) is not fast


def test_more_keys_than_a_tracker_takes_are_reported(tmp_path):
    runner, callback = trainer(tmp_path), IntrinsicDimensionCallback()
    callback._begin(runner, Toy(), in_validation=False)
    running = callback._running
    with pytest.warns(UserWarning, match=f"{MANY_KEYS + 1} numbers are logged at every"):
        outputs_of(History()).announce(runner, running, ["twonn"], MANY_KEYS + 1)


# --- the user's metrics in the history are as in the loggers, each final and at its step ----------


STEPS = 7  # batches of an epoch


class Logging(Toy):
    """Logs in every way there is: at steps, over the epoch, both, and at the epoch's very end."""

    def __init__(self):
        super().__init__()
        self.accuracy = MulticlassAccuracy(3)

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        loss = nn.functional.cross_entropy(logits, y)
        self.accuracy.update(logits, y)
        self.log("train_acc", self.accuracy, on_step=False, on_epoch=True)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("step_loss", loss)
        if self.current_epoch == 0:
            self.log("warmup", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self):
        self.log("epoch_squared", float(self.current_epoch + 1) ** 2)
        self.log("unseen", float(self.current_epoch), logger=False)


def curves(run):
    """Return the curves of an event file: value by step, by tag."""
    events = EventAccumulator(str(run))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def recorded(history, name):
    """Return a metric of the fit: value by step."""
    found = [
        (m["step"], m["value"]) for m in history.metrics if (m["stage"], m["name"]) == ("fit", name)
    ]
    assert len(dict(found)) == len(found)  # once at each step
    return dict(found)


def fit(folder, callback, *others, model=None, val=True, ckpt_path=None, **options):
    return fitted(
        folder,
        callback,
        *others,
        model=model or Logging(),
        val=loader(60) if val else None,
        ckpt_path=ckpt_path,
        log_every_n_steps=1,
        max_epochs=3,
        logger=TensorBoardLogger(folder),
        **options,
    )


WAYS = [
    {},
    {"val_check_interval": 0.5},
    {"val_check_interval": 5, "check_val_every_n_epoch": None},
    {"check_val_every_n_epoch": 2},
    {"max_steps": 18},
    {"accumulate_grad_batches": 3},
    {"num_sanity_val_steps": -1},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_metrics_of_the_training_epoch_equal_tensorboard(way, tmp_path):
    callback = IntrinsicDimensionCallback(
        ["net.5"], charts=False, schedule=LogSpaced(), data=["val"]
    )
    runner = fit(tmp_path, callback, **way)
    shown = curves(runner.log_dir)
    history = History.load(runner.log_dir)
    assert [str(m) for m in history.metrics] == [str(m) for m in callback.history.metrics]
    for ours, theirs in [
        ("train_acc", "train_acc"),
        ("train_loss_epoch", "train_loss_epoch"),
        ("epoch_squared", "epoch_squared"),
        ("warmup", "warmup"),
        ("val_acc", "val_acc"),
    ]:
        assert recorded(history, ours) == pytest.approx(shown[theirs]), ours
    assert recorded(history, "train_loss") == pytest.approx(shown["train_loss_epoch"])
    assert list(recorded(history, "unseen").values()) == [0, 1, 2]
    steps = recorded(history, "step_loss")
    assert steps == pytest.approx({step: shown["step_loss"][step] for step in steps})


def test_the_generalisation_gap_is_that_of_one_epoch(tmp_path):
    runner = fit(tmp_path, IntrinsicDimensionCallback(["net.5"], charts=False))
    shown = curves(runner.log_dir)
    for epoch in range(3):
        step = (epoch + 1) * STEPS - 1
        row = {
            m["name"]: m["value"]
            for m in History.load(runner.log_dir).metrics
            if m["epoch"] == epoch
        }
        gap = shown["train_acc"][step] - shown["val_acc"][step]
        assert row["train_acc"] - row["val_acc"] == pytest.approx(gap)


def test_without_a_validation_the_training_epochs_are_recorded(tmp_path):
    callback = IntrinsicDimensionCallback(
        ["net.5"], charts=False, schedule=LogSpaced(), data=["train"]
    )
    runner = fit(tmp_path, callback, val=False)
    assert recorded(callback.history, "train_acc") == pytest.approx(
        curves(runner.log_dir)["train_acc"]
    )


def test_a_learning_rate_set_before_the_epoch_stays_that_of_the_epoch(tmp_path):
    class Decaying(Logging):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]

    callback = IntrinsicDimensionCallback(["net.5"], charts=False)
    # Before the callback in the list, it writes before the epoch before is recorded.
    fitted(
        tmp_path,
        LearningRateMonitor("epoch"),
        callback,
        model=Decaying(),
        val=loader(60),
        max_epochs=3,
        logger=TensorBoardLogger(tmp_path),
    )
    assert list(recorded(callback.history, "lr-SGD").values()) == [1.0, 0.5, 0.25]


def test_a_checkpoint_holds_the_metrics_of_its_epoch_and_a_resumed_run_goes_on(tmp_path):
    saving = ModelCheckpoint(tmp_path, save_top_k=-1, save_on_train_epoch_end=True)
    first = IntrinsicDimensionCallback(["net.5"], charts=False)
    fit(tmp_path, first, saving, enable_checkpointing=True)
    (path,) = tmp_path.glob("epoch=1*.ckpt")
    saved = torch.load(path, weights_only=True)["callbacks"][first.state_key]["metrics"]
    assert [m["epoch"] for m in saved if m["name"] == "epoch_squared"] == [0, 1]
    second = IntrinsicDimensionCallback(["net.5"], charts=False)
    runner = fit(tmp_path, second, ckpt_path=path)
    shown = curves(runner.log_dir)
    for name in ("train_acc", "train_loss_epoch", "epoch_squared", "val_acc"):
        values = recorded(History.load(runner.log_dir), name)
        before = recorded(first.history, name)
        expected = {6: before[6], 13: before[13], 20: shown[name][20]}
        assert values == pytest.approx(expected), name


@pytest.mark.parametrize("where", ["on_train_start_of_epoch", "training_step"])
def test_a_fit_that_fails_has_kept_the_epochs_before(where, tmp_path):
    class Failing(Logging):
        def train_dataloader(self):
            if where == "on_train_start_of_epoch" and self.current_epoch == 1:
                raise RuntimeError("planned")
            return loader()

        def training_step(self, batch, batch_idx):
            if where == "training_step" and self.current_epoch == 1:
                raise RuntimeError("planned")
            return super().training_step(batch, batch_idx)

    callback = IntrinsicDimensionCallback(["net.5"], charts=False)
    runner = trainer(
        tmp_path,
        callbacks=[callback],
        logger=TensorBoardLogger(tmp_path),
        reload_dataloaders_every_n_epochs=1,
    )
    with pytest.raises(RuntimeError, match="planned"):
        runner.fit(Failing(), val_dataloaders=loader(60))
    history = History.load(runner.log_dir)
    assert list(recorded(history, "train_acc")) == [6]
    assert not math.isnan(recorded(history, "train_acc")[6])


def test_a_validation_of_which_no_measurement_is_made_has_its_metrics_and_its_epoch(tmp_path):
    callback = IntrinsicDimensionCallback(["net.5"], charts=False, schedule=EveryNValidations(2))
    runner = fit(tmp_path, callback)
    shown = curves(runner.log_dir)
    for name in ("train_acc", "val_acc"):
        assert recorded(callback.history, name) == pytest.approx(shown[name])
