"""What the callback says, with real progress bars."""

import io
import logging
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from rich.console import Console

from lightning_id import AtSteps, History, IntrinsicDimensionCallback
from lightning_id.callback.terminal import validation_line, where_to_look
from lightning_id.experiments.show import ShowProfile
from lightning_id.history.tables import end_rows, end_table
from tests.toys import Toy, fitted, loader, trainer, validated


def fit(folder, *callbacks, logger=False, first=False, **kwargs):
    callback = IntrinsicDimensionCallback(["input", "net.5"], **kwargs)
    runner = trainer(
        folder,
        callbacks=[*callbacks, callback] if first else [callback, *callbacks],
        num_sanity_val_steps=-1,
        logger=logger,
        enable_progress_bar=any(isinstance(each, ProgressBar) for each in callbacks),
    )
    model = Toy()
    runner.fit(model, loader(), loader(60))
    return callback, runner, model


def test_a_line_after_every_validation_and_the_table_at_the_end(tmp_path, capsys):
    fit(tmp_path, TQDMProgressBar())
    out = capsys.readouterr().out.splitlines()
    lines = [line for line in out if "id/last_hidden" in line]
    starts = ["before training", "epoch 0/1", "epoch 1/1"]  # as the bars and the history count
    assert all(start in line for line, start in zip(lines, starts, strict=True))
    assert all("val_acc" in line and "id/peak" in line for line in lines)
    (head,) = [i for i, line in enumerate(out) if line.startswith("layer ")]
    assert [line.split()[0] for line in out[head + 2 : head + 4]] == ["input", "net.5"]


def test_the_table_is_of_what_was_measured(tmp_path, capsys):
    fit(tmp_path, TQDMProgressBar(), estimators=["mle"])
    out = capsys.readouterr().out
    table = [line.split() for line in out[out.index("\nlayer ") :].splitlines()]
    assert table[1] == ["layer", "depth", "width", "MLE", "change", "MLE", "before"]
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


def test_the_table_of_a_validation_alone_is_printed(tmp_path, capsys):
    callback = IntrinsicDimensionCallback(["input", "net.5"])
    validated(tmp_path, callback, model=Toy(), data=loader(60), enable_progress_bar=True)
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


RICH = {"console_kwargs": {"force_terminal": True, "width": 80}}


def bars(test):
    kinds = [TQDMProgressBar, lambda: RichProgressBar(**RICH)]
    test = pytest.mark.parametrize("bar", kinds, ids=["tqdm", "rich"])(test)
    return pytest.mark.parametrize("first", [True, False], ids=["bar-first", "bar-last"])(test)


@bars
def test_nothing_is_drawn_after_the_table(bar, first, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    callback, *_ = fit(tmp_path, bar(), first=first)
    out = capsys.readouterr().out
    table = end_table(callback.history, columns=80)
    assert out.count(table) == 1
    notes = out[out.index(table) + len(table) :].strip().removeprefix(BARS).strip()
    assert notes in ("", NOTE)


@bars
def test_the_layers_are_printed_above_the_bar(bar, first, tmp_path, capsys, caplog, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with caplog.at_level(logging.INFO):
        fit(tmp_path, bar(), first=first)
    # Through the bar, which knows what it has drawn: a log goes to another stream, into its line.
    out = capsys.readouterr().out
    line = "Intrinsic dimension is measured in 3 layers, of 60 samples of val:"
    assert out.count(line) == 1
    assert out[: out.index(line)][-1:] in ("", "\n", "\r", "K")  # K ends the code that erases
    assert line not in caplog.text


BARS = "± is half of a 95 % interval."
NOTE = "Above about 20 TwoNN is usually too low."


@pytest.mark.parametrize("value", [19.0, 21.0])
def test_the_bound_is_named_where_a_value_is_above_it(value, tmp_path, capsys):
    callback, runner, model = fit(tmp_path)
    for record in callback.history.records:
        record["value"] = value
    runner.callbacks.append(TQDMProgressBar())
    callback.on_fit_end(runner, model)
    assert (NOTE in capsys.readouterr().out) == (value > 20)


def logged_where(caplog):
    return [r.getMessage() for r in caplog.records if "lightning-id report" in r.getMessage()]


@pytest.mark.parametrize("shown", [True, False], ids=["bar", "no-bar"])
def test_the_end_of_a_fit_logs_where_the_history_is(shown, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO):
        fit(tmp_path, *[TQDMProgressBar()] * shown, logger=CSVLogger("logs", "mine"), charts=False)
    folder = "logs/mine/version_0"
    assert Path(folder, "history.csv").exists()
    expected = f"history.csv is in {folder}: lightning-id report {folder}"
    assert [" ".join(text.split()) for text in logged_where(caplog)] == [expected]


@pytest.mark.parametrize("case", ["no logger", "named by another", "validate"])
def test_where_the_history_is_is_not_logged_in_vain(case, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        if case == "no logger":
            fit(tmp_path)
        elif case == "named by another":
            fit(tmp_path, ShowProfile(), logger=CSVLogger(tmp_path), charts=False)
        else:
            validated(
                tmp_path,
                IntrinsicDimensionCallback(charts=False),
                model=Toy(),
                data=loader(60),
                logger=CSVLogger(tmp_path),
            )
    assert not logged_where(caplog)


def test_a_command_is_never_broken(tmp_path):
    folder = tmp_path / "a folder" / ("long" * 20)
    below = "history.csv is in logs/version_0: lightning-id report logs/version_0"
    assert where_to_look(Path("logs/version_0")) == below
    *_, command = where_to_look(folder, columns=80).splitlines()
    assert command == f"lightning-id report '{folder}'"


def test_lines_keep_within_the_terminal_and_are_broken_between_numbers():
    history = History()
    history.append(
        stage="fit",
        epoch=0,
        step=1,
        layer="encoder.blocks.11.attention.projection",
        order=0,
        depth=0.5,
        ambient_dimension=768,
        estimator="twonn",
        value=12.5,
        std_error=0.5,
    )
    metrics = {"val_acc": 0.9177, "a/id/last_hidden": 7.1234}
    line = validation_line(metrics, "epoch 11/99", history, prefix="a/", columns=80)
    assert line.splitlines() == [
        "epoch 11/99  val_acc 0.9177  a/id/last_hidden 7.123",
        "  a/id/peak 12.5 at encoder.blocks.11.attention.projection",
    ]
    assert "\n" not in validation_line(metrics, "epoch 11/99", history, prefix="a/")


def test_a_table_too_wide_for_the_terminal_leaves_out_columns_from_before_training():
    history = History()
    for stage in ("before_training", "fit"):
        for estimator in ("twonn", "pca"):
            history.append(
                stage=stage,
                epoch=0,
                step=1,
                layer="encoder.blocks.11.mlp",
                order=0,
                depth=0.5,
                ambient_dimension=3072,
                estimator=estimator,
                value=12.5,
                std_error=0.5,
            )
    head = end_table(history).splitlines()[0]
    assert len(head) > 80
    narrow = end_table(history, columns=80).splitlines()
    assert max(map(len, narrow)) <= 80
    assert narrow[0].split() == [
        "layer",
        "depth",
        "width",
        "TwoNN",
        "PCA",
        "90",
        "%",
        "TwoNN",
        "before",
    ]


def test_without_a_number_of_epochs_the_epoch_stands_alone(tmp_path, capsys):
    callback = IntrinsicDimensionCallback(["net.5"])
    fitted(tmp_path, callback, val=loader(60), enable_progress_bar=True, max_epochs=-1, max_steps=7)
    assert "\nepoch 0  val_acc" in capsys.readouterr().out


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
            stage="fit",
            epoch=0,
            step=1,
            layer=layer,
            order=order,
            depth=order / 3,
            estimator="twonn",
            value=value,
        )
    line = validation_line({"val_acc": 0.98, "id/last_hidden": 8.0}, "epoch 1", history)
    assert line == "epoch 1  val_acc 0.98  id/last_hidden 8  id/peak 14 at conv1"
