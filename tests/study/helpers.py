"""A study of a module that the tests bring along, and a wait with a limit."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import yaml

from tests.processes import ForkedCommand

MINE = Path(__file__).with_name("mine.py")
BASE = {
    "model": {"class_path": "mine.Net"},
    "data": {"class_path": "mine.Blobs"},
    "trainer": {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
    },
}
CALLBACK = {"data": ["val", "train"], "n_samples": 90, "estimators": ["twonn", "pca"]}


def content(grid, **others):
    """Return a study of `mine.Net`."""
    study = {"base": BASE, "grid": grid, "outcome": {"error": "1 - val_acc"}, "callback": CALLBACK}
    return study | others


def write(grid, path="tiny.yaml", **others):
    """Write a study and the module that it trains, and return its path."""
    path = Path(path)
    shutil.copy(MINE, path.parent)
    path.write_text(yaml.safe_dump(content(grid, **others), sort_keys=False))
    return str(path)


def results(folder="runs/tiny"):
    """Return when each training of a study ended, by its name."""
    return {path.parent.name: path.stat().st_mtime_ns for path in Path(folder).rglob("result.json")}


@contextmanager
def running(words: Sequence[str], log: IO[str]) -> Iterator[ForkedCommand]:
    """Start Python in a process of its own, and kill it at the end."""
    process = ForkedCommand([sys.executable, *words], stdout=log, env=os.environ)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


def children(pid):
    """Return the processes that train for another; imports begin others that end by themselves."""
    tasks = list(Path(f"/proc/{pid}/task").glob("*/children"))
    pids = [child for path in tasks for child in path.read_text().split()]
    return [p for p in pids if "run_child" in Path(f"/proc/{p}/cmdline").read_text()]


def wait_until(holds: Callable[[], object], seconds: float = 200) -> None:
    """Wait until a condition holds, at most so many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
