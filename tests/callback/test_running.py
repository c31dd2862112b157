"""One measurement of a callback, driven by the hooks of a real Trainer."""

import pytest
import pytorch_lightning as pl

from lightning_id import History, IntrinsicDimensionCallback
from lightning_id.callback.running import Moment
from lightning_id.functional import twonn_dimension
from lightning_id.history import BEFORE_TRAINING, Validation
from tests.toys import Toy, count_hooks, loader, toy_data, trainer

ESTIMATORS = {"twonn": twonn_dimension}


class Driving(pl.Callback):
    """Begins a measurement at each validation, estimates at its end, and keeps the last."""

    def __init__(self, breaks=None, **options):
        self.owner = IntrinsicDimensionCallback(["input"], **options)
        self.history, self.moments, self.breaks = History(), [], breaks

    def on_validation_start(self, trainer, pl_module):
        self.owner._begin(trainer, pl_module, in_validation=True)
        self.running = self.owner._running
        self.moments.append(self.running.moment)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.running.pass_sets()
        self.running.begin_batch(None if self.breaks == batch_idx else batch)

    def on_validation_batch_end(
        self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0
    ):
        self.running.end_batch()

    def on_validation_epoch_end(self, trainer, pl_module):
        self.running.estimate(ESTIMATORS, self.history)
        self.metrics = self.running.metrics("mine_")
        self.running.cancel()


def fit(folder, driving):
    model = Toy()
    runner = trainer(folder, callbacks=[driving], num_sanity_val_steps=-1, max_epochs=1)
    runner.fit(model, loader(64, seed=3), loader(60, seed=1))
    assert count_hooks(model) == 0


def input_of(n, seed):
    return twonn_dimension(toy_data(n, seed).tensors[0].flatten(1)).value


def test_every_set_is_recorded_by_hooks_or_a_probe_and_estimated_at_its_moment(tmp_path):
    driving = Driving(data=("val", "train"))
    fit(tmp_path, driving)
    found = [
        (r["stage"], r["step"], r["data"], pytest.approx(r["value"]))
        for r in driving.history.records
        if r["layer"] == "input"
    ]
    val, train = input_of(60, 1), input_of(64, 3)
    assert found == [
        (BEFORE_TRAINING, 0, "val", val),
        (BEFORE_TRAINING, 0, "train", train),
        ("fit", 3, "val", val),
        ("fit", 3, "train", train),
    ]
    assert driving.metrics["mine_id_twonn/input"] == pytest.approx(val)
    assert driving.metrics["mine_train_id_twonn/input"] == pytest.approx(train)
    assert set(driving.running.plans) == {"val", "train"}
    assert driving.running.seconds > 0


def test_only_before_training_and_between_steps_the_loggers_are_called_directly(tmp_path):
    driving = Driving()
    fit(tmp_path, driving)
    assert driving.moments == [
        Moment(Validation(BEFORE_TRAINING, 0, 0), in_validation=True),
        Moment(Validation("fit", 0, 3), in_validation=True),
    ]
    assert [moment.logs_directly for moment in driving.moments] == [True, False]
    assert Moment(Validation("fit", 0, 3), in_validation=False).logs_directly


def test_a_set_that_fails_is_dropped_with_a_warning_and_the_next_measurement_is_whole(tmp_path):
    class Once(Driving):
        def on_validation_start(self, trainer, pl_module):
            super().on_validation_start(trainer, pl_module)
            self.breaks = 1 if trainer.sanity_checking else None

    driving = Once(per_class=10)  # a batch without labels cannot be recorded
    with pytest.warns(UserWarning, match="Callback could not record a batch"):
        fit(tmp_path, driving)
    assert {r["stage"] for r in driving.history.records} == {"fit"}


def test_cancel_may_come_at_any_point_and_again(tmp_path):
    class Cancelling(Driving):
        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            super().on_validation_batch_start(trainer, pl_module, batch, batch_idx)
            self.running.cancel()
            self.running.cancel()
            assert count_hooks(pl_module) == 0

    driving = Cancelling()
    fit(tmp_path, driving)
    assert driving.history.records == []
    assert driving.metrics == {}
