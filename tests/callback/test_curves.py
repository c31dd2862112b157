"""A TensorBoard run for each layer: names, values, steps, and files that are closed."""

import threading

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_id import IntrinsicDimensionCallback
from tests.toys import Toy, fitted, loader

RUNS = ["00-input", "01-net.5", "02-last_hidden"]


def fit(folder, model=None, version="run", **options):
    pl.seed_everything(5, verbose=False)
    callback = IntrinsicDimensionCallback(["input", "net.5"], n_samples=40, charts=False, **options)
    logger = TensorBoardLogger(folder, name=None, version=version)
    fitted(
        folder,
        callback,
        model=model or Toy(),
        train=loader(64, seed=3),
        logger=logger,
        num_sanity_val_steps=-1,
    )
    return callback, folder / version


def curve(folder, tag="id/twonn"):
    found = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in found.Scalars(tag)]


def test_each_layer_of_each_set_has_a_run_with_its_values(tmp_path):
    threads = threading.active_count()
    callback, run = fit(tmp_path, data=("val", "train"))
    assert sorted(path.name for path in (run / "layers").iterdir()) == RUNS
    for name, folder in (("val", "layers"), ("train", "train_layers")):
        history = callback.history.of_set(name)
        for estimator in ("twonn", "pca"):
            for order, layer in enumerate(RUNS):
                expected = [
                    (v.step, pytest.approx(history.at(v, estimator)[order]["value"]))
                    for v in history.validations()
                ]
                assert curve(run / folder / layer, f"id/{estimator}") == expected
    assert threading.active_count() <= threads + 1  # the writer of the logger itself


def test_it_can_be_turned_off_and_a_trial_run_writes_none(tmp_path):
    _, run = fit(tmp_path, layer_curves=False)
    assert not (run / "layers").exists()
    fitted(tmp_path / "fast", IntrinsicDimensionCallback(), val=loader(), fast_dev_run=True)
    assert not list((tmp_path / "fast").rglob("layers"))


def test_an_exception_closes_the_files_and_a_resumed_run_appends(tmp_path):
    class Failing(Toy):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit(tmp_path, Failing())
    writers = [t for t in threading.enumerate() if "_AsyncWriterThread" in type(t).__name__]
    before = curve(tmp_path / "run" / "layers" / RUNS[1])
    assert [step for step, _ in before] == [0, 3]
    assert len(writers) <= 1
    fit(tmp_path)
    assert len(curve(tmp_path / "run" / "layers" / RUNS[1])) == 2 + 3
