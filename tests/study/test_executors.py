"""Processes of this machine: threads and GPUs of each."""

import pytest

from lightning_id.study.executors import _environments, run_locally
from lightning_id.study.grid import Resources


def gpus(workers, resources):
    return [each["CUDA_VISIBLE_DEVICES"] for each in _environments(workers, resources)]


def test_each_training_has_the_threads_that_were_asked_for():
    (one, two) = _environments(2, Resources(cpus=3))
    assert one == two
    assert one["OMP_NUM_THREADS"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in one


@pytest.mark.parametrize(
    ("needed", "workers", "seen"),
    [
        (1, None, ["4", "5", "6"]),
        (0.5, None, ["4", "4", "5", "5", "6", "6"]),
        (2, None, ["4,5"]),
        (1, 5, ["4", "5", "6", "4", "5"]),
    ],
)
def test_gpus_are_dealt_out(monkeypatch, needed, workers, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    assert gpus(workers, Resources(gpus=needed)) == seen


def test_more_gpus_than_there_are_raise(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ValueError, match="`resources`: expected at most 1 GPUs, got 2"):
        _environments(None, Resources(gpus=2))


def test_nothing_to_run_starts_nothing():
    assert list(run_locally([], 2, Resources())) == []
