"""The paths at the end of an experiment: a real Trainer and a history, and no fit."""

import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger

from lightning_id import History, IntrinsicDimensionCallback
from lightning_id.experiments.show import ShowProfile, _tensorboard
from tests.quick import draw_quickly
from tests.report.histories import measured
from tests.toys import Toy, trainer


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty working folder, and figures drawn quickly."""
    monkeypatch.chdir(tmp_path)
    draw_quickly(monkeypatch)


def measuring(history, prefix=""):
    callback = IntrinsicDimensionCallback(prefix=prefix)
    callback.history.records += history.records
    return callback


def show(*callbacks, **options):
    shown = ShowProfile()
    runner = trainer(".", callbacks=[*callbacks, shown], **options)
    shown.on_fit_end(runner, Toy())
    return runner


def test_files_are_written_into_the_folder_of_each_prefix_and_their_paths_printed(capsys):
    history = measured(History(), ("fit", 1, 20), [5, 6, 4])
    callbacks = [measuring(history), measuring(history, "train/")]
    run = Path(show(*callbacks, logger=CSVLogger("runs", "mine")).log_dir)
    paths = [
        line
        for folder in (run, run / "train")
        for line in (
            "",
            f"Depth profile:  {folder / 'profile.png'}",
            f"All records:    {folder / 'history.csv'}",
            f"Report:         {folder / 'report.html'}",
        )
    ]
    assert capsys.readouterr().out.splitlines() == [
        *paths,
        f"Curves:         {_tensorboard()} --logdir {run}",
    ]
    for folder in (run, run / "train"):
        assert (folder / "profile.png").read_bytes().startswith(b"\x89PNG")
        assert "</html>" in (folder / "report.html").read_text()
        assert str(History.load(folder).records) == str(history.records)


def test_a_command_within_the_working_folder_is_printed_as_it_can_be_typed(monkeypatch):
    for executable, command in (
        (Path.cwd() / ".venv/bin/python", ".venv/bin/tensorboard"),
        (Path("/usr/bin/python"), "tensorboard"),
    ):
        monkeypatch.setattr(sys, "executable", str(executable))
        assert _tensorboard() == command


def test_the_figure_is_of_the_estimator_that_was_measured(monkeypatch):
    drawn, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, *args, **options: drawn.append(figure) or save(figure, *args, **options),
    )
    history = measured(History(), ("fit", 1, 20), [5, 6, 4], estimator="pca")
    show(measuring(history), logger=CSVLogger("runs"))
    assert "90 % of the variance" in drawn[0].axes[0].get_ylabel()


@pytest.mark.parametrize("case", ["no callback", "no folder", "another rank"])
def test_without_a_history_or_a_folder_and_on_other_ranks_nothing_is_printed(
    case, capsys, monkeypatch
):
    history = measured(History(), ("fit", 1, 20), [5])
    callbacks = [measuring(history)] if case != "no callback" else []
    options = {"logger": CSVLogger("runs")}
    if case == "no folder":
        options = {"logger": True, "fast_dev_run": True}
    if case == "another rank":
        monkeypatch.setattr("pytorch_lightning.Trainer.is_global_zero", False)
    show(*callbacks, **options)
    assert capsys.readouterr().out == ""
    assert not list(Path().rglob("history.csv"))
