"""Outputs of a callback by themselves: a real Trainer and real loggers, and no fit."""

import csv

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger

from lightning_id import IntrinsicDimensionCallback
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.outputs import MANY_KEYS, Outputs
from lightning_id.callback.running import Moment
from lightning_id.callback.schedule import Budget
from lightning_id.history import BEFORE_TRAINING, History, Validation
from tests.toys import Toy, trainer

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
