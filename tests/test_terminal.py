"""What the callback says, with real progress bars."""

import io

import pytest
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar
from rich.console import Console

from lightning_id import AtSteps, History, IntrinsicDimensionCallback
from lightning_id.history.tables import end_rows
from lightning_id.terminal import validation_line
from tests.toys import Toy, loader, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*logging interval", "ignore:.*LeafSpec"
)


def fit(folder, *callbacks, **kwargs):
    callback = IntrinsicDimensionCallback(["input", "net.5"], **kwargs)
    runner = trainer(
        folder, callbacks=[callback, *callbacks], num_sanity_val_steps=-1,
        enable_progress_bar=bool(callbacks),
    )  # fmt: skip
    model = Toy()
    runner.fit(model, loader(), loader(60))
    return callback, runner, model


def test_a_line_after_every_validation_and_the_table_at_the_end(tmp_path, capsys):
    fit(tmp_path, TQDMProgressBar())
    out = capsys.readouterr().out.splitlines()
    lines = [line for line in out if "id/last_hidden" in line]
    starts = ["before training", "epoch 1/2", "epoch 2/2"]
    assert all(start in line for line, start in zip(lines, starts, strict=True))
    assert all("val_acc" in line and "id/peak" in line for line in lines)
    (head,) = [i for i, line in enumerate(out) if line.startswith("layer ")]
    assert [line.split()[0] for line in out[head + 2 : head + 4]] == ["input", "net.5"]


def test_the_table_is_of_what_was_measured(tmp_path, capsys):
    fit(tmp_path, TQDMProgressBar(), estimators=["mle"])
    out = capsys.readouterr().out
    table = [line.split() for line in out[out.index("\nlayer ") :].splitlines()]
    assert table[1] == ["layer", "depth", "width", "MLE", "MLE", "before"]
    assert [line[0] for line in table[3:5]] == ["input", "net.5"]
    assert "TwoNN" not in out


def test_nothing_is_said_without_a_progress_bar(tmp_path, capsys):
    fit(tmp_path)
    assert "id/last_hidden" not in capsys.readouterr().out


def test_many_measurements_between_steps_say_no_line_each(tmp_path, capsys):
    callback, *_ = fit(tmp_path, TQDMProgressBar(), schedule=AtSteps(range(9)))
    assert len(callback.history.validations()) == 9
    lines = [line for line in capsys.readouterr().out.splitlines() if "id/last_hidden" in line]
    assert len(lines) == 1  # of the network before training


def test_the_table_of_a_validation_alone_is_said(tmp_path, capsys):
    callback = IntrinsicDimensionCallback(["input", "net.5"])
    runner = trainer(tmp_path, callbacks=[callback], enable_progress_bar=True)
    runner.validate(Toy(), loader(60), verbose=False)
    assert "layer " in capsys.readouterr().out


def test_under_a_rich_bar_is_a_table_that_changes_and_is_gone_at_the_end(tmp_path):
    seen = []

    class Watching(RichProgressBar):
        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            console = Console(width=100, record=True, file=io.StringIO())
            console.print(self.progress.get_renderable())
            seen.append(console.export_text())

    callback, runner, _ = fit(tmp_path, Watching(console_kwargs={"force_terminal": True}))
    assert len(seen) == 2
    for text, validation in zip(seen, callback.history.validations()[1:], strict=True):
        for record in callback.history.at(validation, "twonn"):
            (line,) = [line for line in text.splitlines() if line.startswith(record["layer"])]
            assert f"{record['value']:.2f}" in line
    bar = runner.progress_bar_callback
    assert "get_renderables" not in vars(bar.progress or object)


def test_a_history_without_a_measurement_has_no_table():
    assert end_rows(History()) == []
    assert validation_line({}, "epoch 1", History()) == "epoch 1"


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({"val_acc": 0.5, "val_loss": 2.0}, "val_acc 0.5"),
        ({"val_loss": 2.0, "train_acc": 1.0}, "val_loss 2"),
        ({"f1": 2.0}, ""),
    ],
)
def test_the_line_shows_an_accuracy_or_else_a_loss(metrics, shown):
    assert validation_line(metrics, "epoch 1", History()) == f"epoch 1  {shown}".strip()


def test_the_line_of_a_validation_has_accuracy_last_hidden_and_peak():
    history = History()
    for order, (layer, value) in enumerate({"input": 12.0, "conv1": 14.0, "output": 6.0}.items()):
        history.append(
            stage="fit", epoch=0, step=1, layer=layer, order=order, depth=order / 3,
            estimator="twonn", value=value,
        )  # fmt: skip
    line = validation_line({"val_acc": 0.98, "id/last_hidden": 8.0}, "epoch 1", history)
    assert line == "epoch 1  val_acc 0.98  id/last_hidden 8  id/peak 14 at conv1 (depth 0.33)"
