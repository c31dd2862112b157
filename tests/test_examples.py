"""Every example runs, and what it says is so."""

import json
import os
import re
import runpy
import sys
from pathlib import Path

import pytest

from lightning_id.functional import ESTIMATORS
from tests.bare import without_data
from tests.processes import ForkedCommand

EXAMPLES = Path(__file__).parents[1] / "examples"
# Studies of minutes, which write pages: each has a `test_<name>.py` of its own.
TESTED_ELSEWHERE = {
    "calibration.py",
    "calibration_change.py",
    "law.py",
    "biases.py",
    "reproduce.py",
    "reproduce_text.py",
    "finetune_text.py",
    "docstrings.py",
}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example in an empty folder, and return the lines it printed."""
    monkeypatch.chdir(tmp_path)
    without_data(monkeypatch, tmp_path)
    monkeypatch.setattr(sys, "argv", ["example"])

    def run(name):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def numbers(line):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", line)]


def test_all_examples_are_here():
    tested = set(re.findall(r"\"(\w+\.py)\"", Path(__file__).read_text(encoding="utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_one_tensor_has_the_dimension_of_the_sheet(run):
    twonn, pca, *profile = run("one_tensor.py")
    assert abs(numbers(twonn)[0] - 2) < 3 * numbers(twonn)[1]
    assert numbers(pca)[0] == 3
    assert len(profile) >= 4


def test_a_plain_loop_sees_the_last_layer_fold_up(run):
    lines = run("plain_pytorch.py")
    epochs = [line for line in lines if line.startswith("epoch")]
    assert numbers(epochs[-1])[-1] > 0.8  # accuracy
    (last,) = (line.split() for line in lines if line.split()[:1] == ["3"])
    assert float(last[1]) > 0


def test_mnist_logs_the_dimension_next_to_the_accuracy(run, tmp_path):
    run("mnist_in_40_lines.py")
    assert len(list(tmp_path.glob("lightning_logs/version_0/history.csv"))) == 1


def test_tokens_become_rows_in_three_ways(run):
    lines = [line.split() for line in run("transformer.py") if "id_twonn/" in line]
    found = {name: float(value) for name, value in lines}
    for prefix in ("mean_", "cls_", "token_"):
        assert all(found[f"{prefix}id_twonn/model.blocks.layers.{k}"] > 1 for k in range(3))


def test_training_stops_when_the_last_hidden_layer_folds_up_no_more(run):
    head, *epochs = run("early_stopping.py")
    n_epochs = int(numbers(head)[0])
    assert 3 <= n_epochs < 20
    assert len(epochs) == n_epochs


def test_two_processes_log_the_same_numbers(tmp_path):
    # Not in this process: Lightning leaves the variables of a process group behind.
    with (tmp_path / "shown.txt").open("w") as log:
        command = [sys.executable, EXAMPLES / "ddp.py"]
        code = ForkedCommand(command, stdout=log, env=os.environ, cwd=tmp_path).wait()
    shown = (tmp_path / "shown.txt").read_text()
    assert code == 0, shown
    said = dict(re.findall(r"process (\d): (\{.*?\})", shown))
    assert sorted(said) == ["0", "1"]
    assert said["0"] == said["1"]
    assert len(json.loads(said["0"].replace("'", '"'))) == 3


def test_an_estimator_of_ones_own_finds_the_dimension_of_a_sphere(run):
    try:
        own, twonn = run("custom_estimator.py")
    finally:
        ESTIMATORS.pop("count_slope", None)
    assert abs(numbers(own)[0] - 5) < 0.5
    assert abs(numbers(twonn)[0] - 5) < 0.5
