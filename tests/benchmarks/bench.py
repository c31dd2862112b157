"""What the benchmarks share: rows, workers, rounds, tables."""

import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
BLOCK = 4096  # columns at a time, as in lightning_id.functional.products
PAUSE = 0.05  # seconds before a call: OpenMP threads of the one before stop spinning


class PeerMissingError(Exception):
    """A contender cannot be had; the message says why."""


class Worker:
    """A contender in a process of its own, which lives until the `with` ends.

    Every contender has one, so that no library's threads, allocator or import order bears on
    another's times, and each runs with the thread settings it comes with.

    Args:
        name: Key of `contenders.CONTENDERS`.
        python: Interpreter of the environment that holds the library.

    Raises:
        PeerMissingError: If the library cannot be imported or warmed up there.
    """

    def __init__(self, name: str, python: str = sys.executable) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "stderr")
        environment = dict(os.environ)
        if python != sys.executable:  # it has packages of its own
            environment.pop("PYTHONPATH", None)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, str(HERE / "contenders.py"), name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        try:
            self.about = self.ask("hello")
        except RuntimeError as error:
            self.close()
            raise PeerMissingError(str(error)) from None

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Args:
            do: Method of `contenders.Contender`.
            **request: Its arguments.

        Returns:
            The answer.

        Raises:
            RuntimeError: If the contender fails.
        """
        try:
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        found = json.loads(answer) if answer else {"error": f"its process ended; {self._tail()}"}
        if "error" in found:
            raise RuntimeError(f"{self.name}: {found['error']}")
        return found

    def close(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _tail(self) -> str:
        lines = self._log.read_text().strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Busy:
    """A process that keeps one core busy while a `with` lasts, and can be held for a moment."""

    def __enter__(self) -> "Busy":
        self._process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Leave the core alone while a `with` lasts.

        Yields:
            Nothing.
        """
        self._process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(PAUSE)
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
            time.sleep(PAUSE)


def activations(n: int, d: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Return rows as of a hidden layer: 12 latent coordinates, a random layer, ReLU, noise.

    Not centred, with a full spectrum that decays, and of a dimension near 10 for TwoNN.

    Args:
        n: Rows.
        d: Columns.
        dtype: Of the rows.
        seed: Seed of a private generator.

    Returns:
        The rows.
    """
    generator = np.random.default_rng(seed)
    latent = generator.standard_normal((n, 12), dtype=np.float32)
    rows = np.empty((n, d), dtype=dtype)
    for start in range(0, d, BLOCK):
        width = min(BLOCK, d - start)
        weights = generator.standard_normal((12, width), dtype=np.float32) / math.sqrt(12)
        bias = generator.standard_normal(width, dtype=np.float32) / 4
        noise = generator.standard_normal((n, width), dtype=np.float32) / 100
        rows[:, start : start + width] = np.maximum(latent @ weights + bias, 0) + noise
    return rows


def save_activations(folder: Path, n: int, d: int, dtype: str = "float32") -> str:
    """Write `activations` to the one file of the folder.

    Args:
        folder: Where; the file of the row before is replaced.
        n: Rows.
        d: Columns.
        dtype: Of the rows.

    Returns:
        The path.
    """
    path = folder / "rows.npy"
    np.save(path, activations(n, d, dtype))
    return str(path)


def round_robin(
    tasks: Mapping[str, Callable[[], float]],
    repeats: int,
    budget: Mapping[str, float],
    slow: float = 5.0,
) -> dict[str, list[float]]:
    """Time tasks in turns, so that what disturbs the machine disturbs them alike.

    The first round warms up and tells what each task costs. Its time counts only for slow tasks, to
    which a warm-up matters little; they get as many turns as the budget allows, spread over the
    rounds. Each round starts with another task.

    Args:
        tasks: Name to a function that returns its seconds; NaN if it failed.
        repeats: Turns of a quick task.
        budget: Name to the seconds that a task may take in all; it has one turn at least.
        slow: Seconds from which a task is slow.

    Returns:
        Name to times.
    """
    names = list(tasks)
    times: dict[str, list[float]] = {}
    turns = {}
    for name in names:
        first = _timed(tasks[name])
        counts = first >= slow
        times[name] = [first] * counts
        affordable = 0 if math.isnan(first) else max(1, round(budget[name] / max(first, 1e-9)))
        turns[name] = min(repeats, affordable) - counts
    for number in range(repeats):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            due = (number + 1) * turns[name] // repeats > number * turns[name] // repeats
            if due:
                times[name].append(_timed(tasks[name]))
    return times


def _timed(task: Callable[[], float]) -> float:
    time.sleep(PAUSE)
    return task()


def median(times: Sequence[float]) -> float:
    """Return the median, NaN of nothing."""
    return statistics.median(times) if times else math.nan


def stated_memory(n: int) -> int:
    """Return the stated peak of extra bytes: one n x n matrix and two blocks of n x 4096."""
    return 4 * n * n + 2 * 4 * n * BLOCK


def seconds(value: float) -> str:
    """Return seconds with three digits."""
    if math.isnan(value):
        return "-"
    return f"{value * 1e3:#.3g} ms".replace(". ", " ") if value < 1 else f"{value:#.3g} s"


def mib(value: float) -> str:
    """Return bytes in MiB."""
    return "-" if math.isnan(value) else f"{value / 2**20:.0f} MiB"


def machine() -> str:
    """Return one line about the machine, its load and its thread settings."""
    settings = {name: os.environ[name] for name in sorted(os.environ) if _sets_threads(name)}
    return (
        f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.2f} at the start, thread settings "
        + (", ".join(f"{name}={value}" for name, value in settings.items()) or "default")
    )


def _sets_threads(name: str) -> bool:
    return name.endswith("_NUM_THREADS") or name.startswith(("KMP_", "GOMP_", "OMP_"))


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
