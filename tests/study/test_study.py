"""The command `lightning-id study`: studies of somebody's module, from YAML to page."""

import csv
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest
from pytorch_lightning.cli import LightningCLI

import lightning_id.study as study_api
from lightning_id import History
from lightning_id.__main__ import main
from lightning_id.study import executors
from lightning_id.study.grid import load_study, trainings_of
from lightning_id.study.runs import Runs
from tests.bare import make_bare
from tests.commands import refused
from tests.processes import fork_commands, in_process
from tests.study.helpers import CALLBACK, children, results, running, wait_until, write

WIDTH, SEED, END = "model.init_args.width", "seed_everything", "model.init_args.end"
GRID = {WIDTH: [4, 8], SEED: [0]}
EXTRA = [{END: "raise"}, {END: "kill"}]
METRICS = {"error": "1 - test_acc", "train_error": "1 - train/val_acc"}


# --- one study -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a study, in which one training fails and one is killed."""
    folder = tmp_path_factory.mktemp("study")
    path = write(GRID, folder / "tiny.yaml", extra=EXTRA, outcome=METRICS)
    with pytest.MonkeyPatch.context() as patch:
        make_bare(patch, folder)
        fork_commands(patch, executors)
        study_api.run(path, folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def trainings(study):
    return trainings_of(load_study(study.parent / "tiny.yaml"))


@pytest.fixture(scope="module")
def table(study):
    return pd.read_csv(study / "page.csv").set_index("run")


def read(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


@pytest.fixture
def copied(study, tmp_path):
    """The same study, once more."""
    shutil.copytree(study, tmp_path / "out")
    for name in ("tiny.yaml", "mine.py"):
        shutil.copy(study.parent / name, tmp_path)
    return tmp_path / "out"


def test_the_folder_of_a_training_holds_its_history_configuration_and_output(study, trainings):
    folder = study / "runs" / trainings[0].identity
    assert {record["data"] for record in History.load(folder).records} == {"val", "train"}
    assert "max_epochs=1" in (folder / "log.txt").read_text()
    assert "width: 4" in (folder / "training.yaml").read_text()


def test_the_table_has_a_row_for_each_training_with_its_settings_and_numbers(
    study, trainings, table
):
    assert list(table.index) == [each.identity for each in trainings]
    assert list(read(study / "page.csv")[0])[:5] == ["run", "cell", "width", "seed", "end"]
    assert table["width"].tolist()[:2] == [4, 8]
    history = History.load(study / "runs" / trainings[1].identity)
    row = table.loc[trainings[1].identity]
    twonn = {
        r["data"]: r
        for r in history.records
        if r["role"] == "last_hidden" and r["estimator"] == "twonn"
    }
    assert row["last_hidden_val"] == twonn["val"]["value"]
    assert row["last_hidden_train_se"] == twonn["train"]["std_error"]
    assert (row["n_samples_val"], row["n_samples_train"]) == (90, 90)
    assert row["cell"] == trainings[1].cell


def test_error_and_gap_follow_from_the_metrics(table):
    done = table[table["reason"].isna()]
    assert len(done) == 2
    assert done["error"].tolist() == (1 - done["test_acc"]).tolist()
    assert done["train_error"].tolist() == (1 - done["train/val_acc"]).tolist()
    assert done["gap"].tolist() == (done["error"] - done["train_error"]).tolist()


def accuracy_of_fit(config, folder):
    """Return the accuracy after Lightning's own command `fit`, in a process of its own."""
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    sys.argv = ["fit.py", "fit", "--config", config, "--trainer.default_root_dir", str(folder)]
    return float(LightningCLI().trainer.callback_metrics["val_acc"])


def test_a_training_gives_the_numbers_of_the_command_fit(study, trainings, table, tmp_path):
    shutil.copy(study.parent / "mine.py", tmp_path)
    config = study / "runs" / trainings[0].identity / "training.yaml"
    accuracy = in_process(accuracy_of_fit, str(config), tmp_path)
    assert accuracy == table["val_acc"].iloc[0]


def test_a_training_that_fails_or_is_killed_fails_alone(table, study):
    reasons = table["reason"].tolist()
    assert [isinstance(reason, str) for reason in reasons] == [False, False, True, True]
    assert reasons[2].startswith("RuntimeError: as asked (training_step, line ")
    assert reasons[3] == "its process ended with exit code -9"
    page = (study / "page.md").read_text()
    assert page.startswith("# Tiny: Does the dimension")
    assert "2 of 4 trainings" in page
    assert "RuntimeError: as asked" in page


def test_few_runs_get_no_verdict_and_the_page_shows_its_picture(study):
    page = (study / "page.md").read_text()
    assert "**Last hidden dimension (val):** Inconclusive. Needs 24 runs" in page
    (name,) = re.findall(r"!\[.*\]\((.*)\)", page)
    assert (study / name).read_bytes().startswith(b"\x89PNG")


# --- again ---------------------------------------------------------------------------------------


def test_a_longer_grid_adds_to_finished_trainings_and_repeats_none(copied, forks):
    first = results(copied)
    more = {"extra": [{WIDTH: 6}], "title": "More"}
    write(GRID, copied.parent / "tiny.yaml", outcome=METRICS, **more)
    study_api.run(copied.parent / "tiny.yaml", copied, page=copied.parent / "docs" / "more.md")
    assert results(copied).items() > first.items()
    assert len(results(copied)) == 3
    page = (copied.parent / "docs" / "more.md").read_text()
    assert page.startswith("# More: Does the dimension")
    assert "3 of 3 trainings" in page
    assert "(more.png)" in page
    assert "(more.csv)" in page


def test_a_changed_configuration_is_reported_and_nothing_is_lost(copied, capsys):
    first = results(copied)
    path = copied.parent / "tiny.yaml"
    write(GRID, path, outcome=METRICS, fixed={"model.init_args.lr": 0.3})
    main(["study", str(path), "--out", str(copied), "--dry-run"])
    shown = capsys.readouterr()
    assert "2 finished trainings in" in shown.err
    assert f"{WIDTH} 4, {SEED} 0 (model.init_args.lr None -> 0.3)" in shown.err
    assert shown.out.count("not run yet") == 2
    assert results(copied) == first


def test_another_metric_of_finished_trainings_needs_no_training(copied):
    path = copied.parent / "tiny.yaml"
    write(GRID, path, outcome={"error": "train_loss"})
    runs = Runs(path, copied)
    assert runs.missing() == []
    assert all(isinstance(row["error"], float) for row in runs.rows())
    write(GRID, path, outcome={"error": "val_auroc"})
    assert [row["reason"] for row in Runs(path, copied).rows()] == [
        "finished without val_auroc"
    ] * 2


def test_a_dry_run_prints_the_trainings_and_trains_none(capsys):
    main(["study", write(GRID), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["training", "width", "seed", "state"]
    assert len(lines) == 4
    assert not Path("runs").exists()


def test_an_interrupted_study_prints_how_to_continue_and_leaves_no_process():
    config = write({"model.init_args.wait": [1000.0], SEED: [0]}, rehearse=False)
    # Tests that run in the background ignore the signal, and so would what they start.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"from lightning_id.__main__ import main; main(['study', {config!r}])"
    )
    with Path("shown.txt").open("w") as log, running(["-c", code], log) as study:
        wait_until(lambda: list(Path("runs").rglob("log.txt")))
        wait_until(lambda: children(study.pid))
        orphans = children(study.pid)
        os.kill(study.pid, signal.SIGINT)
        assert study.wait() == 1
    assert "the same command continues.\n" in Path("shown.txt").read_text()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))


# --- before the first training -------------------------------------------------------------------


def test_a_metric_that_is_never_logged_is_found_before_the_first_training(capsys, forks):
    shown = refused(["study", write(GRID, outcome={"error": "val_auroc"})], capsys)
    assert "expected a metric that is logged, got 'val_auroc'; logged are test_acc, train_loss" in (
        " ".join(shown.split())
    )
    assert not Path("runs/tiny/runs").exists()


def test_a_study_whose_trainings_all_fail_stops_with_the_reason(capsys, forks):
    shown = refused(["study", write({WIDTH: [0], SEED: [0]}, callback={"layers": ["no"]})], capsys)
    assert "one batch of it fails: " in shown
    assert not Path("runs/tiny/runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.yaml"], "Expected a YAML file, got 'nowhere.yaml': no such file"),
        (["tiny.yaml", "--workers", "0"], "`workers`: expected at least 1, got 0"),
        (["tiny.yaml", "--executor", "slurm"], "invalid choice: 'slurm'"),
        (["tiny.yaml", "--page", "page.html"], "`page`: expected a file that ends in .md, got"),
        (["tiny.yaml", "tiny.yaml"], "expected one study, got tiny.yaml, tiny.yaml"),
        (["run", "run2"], "`--error`: expected a metric, for example '1 - val_acc', got none"),
    ],
)
def test_an_invalid_command_is_refused_before_anything_is_trained(words, message, capsys):
    write(GRID)
    assert message in refused(["study", *words], capsys)
    assert not Path("runs").exists()


# --- other command lines, finished runs, executors -----------------------------------------------


def test_a_command_line_of_ones_own_trains(forks):
    base = {"trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False}}
    path = write({"scale": [0.5], "model.width": [5]}, base=base, cli="mine:MyCLI", rehearse=False)
    (row,) = study_api.run(path).rows
    assert (row["scale"], row["width"], row["reason"]) == (0.5, 5, None)
    assert list(Path("runs/tiny/runs").glob("*/lightning_logs/version_0/history.csv"))


def test_folders_of_finished_runs_are_analysed(study, trainings, capsys):
    folders = [str(study / "runs" / each.identity) for each in trainings[:2]]
    main(["study", *folders, "--error", "1 - val_acc", "--page", "found.md"])
    *verdicts, page = capsys.readouterr().out.splitlines()
    reason = "Inconclusive. Needs 24 runs with both numbers, got 2."
    assert verdicts == [f"Last hidden dimension ({data}): {reason}" for data in ("val", "train")]
    assert page == "found.md"
    assert Path(page).read_text().startswith("# Does the dimension")
    rows, ours = read("found.csv"), read(study / "page.csv")
    assert [row["width"] for row in rows] == ["4", "8"]
    for mine, theirs in zip(rows, ours[:2], strict=True):
        assert mine["last_hidden_val"] == theirs["last_hidden_val"]
        assert float(mine["error"]) == 1 - float(theirs["val_acc"])


@pytest.mark.timeout(900)  # Ray takes minutes to begin on a machine that is busy
@pytest.mark.filterwarnings("ignore")  # of Ray and of what it imports
def test_the_same_study_runs_on_ray(monkeypatch, study):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    grid = {WIDTH: [4], SEED: [0]}
    path = write(grid, extra=[{END: "kill"}], outcome=METRICS, rehearse=False)
    main(["study", path, "--executor", "ray"])
    assert not ray.is_initialized()
    rows = Runs(path).rows()
    local = read(study / "page.csv")[0]
    assert str(rows[0]["last_hidden_val"]) == local["last_hidden_val"]
    assert rows[1]["reason"] == "its process ended with exit code -9"


def test_without_ray_the_error_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr("lightning_id.study.runs.find_spec", lambda name: None)
    shown = refused(["study", write(GRID), "--executor", "ray"], capsys)
    assert "pip install 'lightning-id[ray]'" in shown


def test_the_training_of_a_folder_can_be_read(study, trainings):
    spec = json.loads((study / "runs" / trainings[0].identity / "training.json").read_text())
    assert spec["callback"] == CALLBACK
    assert spec["label"] == trainings[0].label
