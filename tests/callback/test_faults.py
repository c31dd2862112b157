"""Whatever goes wrong in a measurement, the training ends with the same weights."""

import errno
import time

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import DummyLogger

from lightning_id import IntrinsicDimensionCallback
from lightning_id.functional import columns, geometry
from lightning_id.recording.measurement import Measurement
from lightning_id.recording.recorder import Recorder
from lightning_id.recording.selection import RowSelector
from tests.toys import Toy, count_hooks, fitted, loader


def train(folder, *callbacks, logger=False, **kwargs):
    pl.seed_everything(4, verbose=False)
    model = Toy()
    fitted(
        folder,
        *callbacks,
        model=model,
        train=loader(shuffle=True),
        logger=logger,
        num_sanity_val_steps=-1,
        enable_checkpointing=False,
        **kwargs,
    )
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return train(tmp_path_factory.mktemp("plain")).state_dict()


def assert_unharmed(model, weights):
    assert count_hooks(model) == 0
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)


class BadLogger(DummyLogger):
    def log_metrics(self, metrics, step=None):
        if any(key.startswith("id") for key in metrics) and step == 0:
            raise ConnectionError("no route")


def out_of_memory(*_args, **_kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory (a fake allocator)")


def disk_full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(*_args, **_kwargs):
    raise ZeroDivisionError("a bug of ours")


@pytest.mark.parametrize(
    ("target", "name", "fault", "message"),
    [
        (
            columns.Columns,
            "gram_matrix",
            out_of_memory,
            "dimension: OutOfMemoryError",
        ),
        (Measurement, "begin_batch", broken, "could not record a batch"),
        (Measurement, "end_batch", broken, "could not record a batch"),
        (Measurement, "results", broken, "could not estimate"),
        (RowSelector, "select", broken, "no twonn or pca dimension: ZeroDiv"),
        ("lightning_id.callback.running", "samples_of", broken, "could not prepare"),
        ("lightning_id.history.History", "to_csv", disk_full, "could not write the history"),
        (
            "lightning_id.recording.storage.Storage",
            "_mapped",
            disk_full,
            "no twonn or pca dimension: OSError",
        ),
    ],
)
def test_a_fault_is_a_warning_and_the_weights_are_the_same(
    target, name, fault, message, weights, tmp_path, monkeypatch
):
    where = f"{target}.{name}" if isinstance(target, str) else None
    monkeypatch.setattr(*((where,) if where else (target, name)), fault)
    callback = IntrinsicDimensionCallback(
        memory_limit=1e-9, charts=False
    )  # a byte: rows go to files
    with pytest.warns(UserWarning, match=message):
        model = train(tmp_path, callback, logger=CSVLogger(tmp_path))
    assert_unharmed(model, weights)


def test_a_logger_that_raises_does_not_stop_the_others(weights, tmp_path):
    callback = IntrinsicDimensionCallback(charts=False)
    with pytest.warns(UserWarning, match="could not log to BadLogger") as warned:
        model = train(tmp_path, callback, logger=[BadLogger(), CSVLogger(tmp_path)])
    assert_unharmed(model, weights)
    assert not [w for w in warned if "write the history" in str(w.message)]
    assert len(callback.history.validations()) == 3


@pytest.mark.parametrize("fault", [float("nan"), float("inf")])
def test_a_layer_of_nan_has_a_reason_and_the_others_their_numbers(
    fault, weights, tmp_path, monkeypatch
):
    record = Recorder.record
    monkeypatch.setattr(
        Recorder,
        "record",
        lambda self, name, x, *rest, **options: record(
            self, name, x * fault if name == "input" else x, *rest, **options
        ),
    )
    callback = IntrinsicDimensionCallback()
    with pytest.warns(UserWarning, match="layer 'input': .*hold NaN or infinite values"):
        model = train(tmp_path, callback)
    assert_unharmed(model, weights)
    last = callback.history.at(callback.history.validations()[-1], "twonn")
    assert [record["reason"] is None for record in last] == [False, True, True, True, True]


def test_on_error_raise_names_the_layer(tmp_path, monkeypatch):
    monkeypatch.setattr(columns.Columns, "gram_matrix", out_of_memory)
    with (
        pytest.raises(RuntimeError, match="twonn of layer 'input' failed: OutOfMemoryError"),
        pytest.warns(UserWarning, match="no twonn or pca dimension: OutOfMemoryError"),
    ):
        train(tmp_path, IntrinsicDimensionCallback(on_error="raise"))


def test_on_error_ignore_is_silent_and_the_history_still_has_the_reason(
    weights, tmp_path, monkeypatch, recwarn
):
    monkeypatch.setattr(columns.Columns, "gram_matrix", out_of_memory)
    callback = IntrinsicDimensionCallback(on_error="ignore")
    assert_unharmed(train(tmp_path, callback), weights)
    assert "OutOfMemoryError" in callback.history.records[0]["reason"]
    assert not [w for w in recwarn if "IntrinsicDimension" in str(w.message)]


def test_an_interrupt_leaves_no_hook(tmp_path):
    class Interrupted(Toy):
        def validation_step(self, batch, batch_idx):
            raise KeyboardInterrupt

    model = Interrupted()
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        fitted(tmp_path, IntrinsicDimensionCallback(), model=model, val=loader(60))
    assert count_hooks(model) == 0


def test_measuring_keeps_its_budget_and_says_when_it_skips(tmp_path, monkeypatch):
    def slow(*args, _estimate=geometry.Geometry.neighbors, **kwargs):
        time.sleep(0.2)
        return _estimate(*args, **kwargs)

    monkeypatch.setattr(geometry.Geometry, "neighbors", slow)
    callback = IntrinsicDimensionCallback(max_overhead=0.01)
    with pytest.warns(UserWarning, match="not every measurement is made") as caught:
        train(tmp_path, callback, max_epochs=4)
    assert len(callback.history.validations()) == 1
    assert sum("max_overhead" in str(warning.message) for warning in caught) == 1


def messages_of(caught):
    found = [str(w.message) for w in caught if "IntrinsicDimension" in str(w.message)]
    return [text.partition("Callback")[2].lstrip(": ") for text in found]


def test_a_failure_that_recurs_is_reported_once(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_id.recording.measurement.Measurement.begin_batch", broken)
    with pytest.warns(UserWarning, match="IntrinsicDimension") as caught:
        model = train(tmp_path, IntrinsicDimensionCallback(), max_epochs=2)
    assert_unharmed(model, weights)
    (text,) = messages_of(caught)
    assert text.startswith("could not record a batch")


class Twice(Toy):
    """Calls every layer twice for each batch, and has two layers of other rows."""

    def __init__(self):
        super().__init__()
        self.wide, self.tall = torch.nn.Flatten(0), torch.nn.Flatten(0)

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        super().validation_step(batch, batch_idx)
        self.wide(batch[0][:, :, :3]), self.tall(batch[0][:, :, :2])


def test_a_cause_is_reported_once_for_all_its_layers_and_once_for_all_validations(tmp_path):
    callback = IntrinsicDimensionCallback(["input", "net.0", "net.3", "net.5", "wide", "tall"])
    pl.seed_everything(0, verbose=False)
    with pytest.warns(UserWarning, match="IntrinsicDimension") as caught:
        fitted(tmp_path, callback, model=Twice(), max_epochs=3)
    texts = messages_of(caught)
    (calls,) = [text for text in texts if "called 2 times" in text]
    assert "'net.0', 'net.3', 'net.5'" in calls
    (rows,) = [text for text in texts if "expected 16 samples" in text]
    assert rows.startswith("layer 'wide': no twonn or pca dimension: expected 16 samples")
    assert rows.endswith("; the same, with other numbers, in 'tall'")
    reasons = {r["layer"]: r["reason"] for r in callback.history.records}
    assert reasons["wide"] != reasons["tall"]


def test_what_holds_for_all_layers_names_none_of_them(tmp_path):
    callback = IntrinsicDimensionCallback(["input", "net.0", "net.5"])
    with pytest.warns(UserWarning, match="IntrinsicDimension") as caught:
        fitted(tmp_path, callback, val=loader(2, seed=1))
    (text,) = messages_of(caught)
    assert text == "all 4 layers: no twonn or pca dimension: expected at least 3 rows, got 2"
