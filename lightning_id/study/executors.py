"""Where the trainings of a study run: processes of this machine, this one, or a Ray cluster."""

import gc
import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from lightning_id.study.grid import Settings
from lightning_id.study.run import Outcome, attempt

Executor = Callable[[Sequence[Settings], int | None], Iterator[Outcome]]

_LOGGERS = "pytorch_lightning", "lightning_utilities"
# Read by OpenMP, OpenBLAS and MKL when they are loaded.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run_locally(trainings: Sequence[Settings], workers: int | None = None) -> Iterator[Outcome]:
    """Run trainings in single-threaded processes of this machine.

    A process runs one training after the other. If one dies, its training fails, and another
    process replaces it. If this process dies, so do they.
    """
    waiting = deque(trainings)
    busy: dict[Connection, _Worker] = {}
    with _environment(_ONE_THREAD):
        try:
            for _ in range(min(workers or _cores(), len(waiting))):
                worker = _Worker()
                busy[worker.submit(waiting.popleft())] = worker
            while busy:
                for connection in wait(list(busy)):
                    worker = busy.pop(connection)  # type: ignore[call-overload]  # its stub has more
                    outcome = worker.result()
                    if waiting:
                        busy[worker.submit(waiting.popleft())] = worker
                    else:
                        worker.stop()
                    yield outcome
        finally:
            for worker in busy.values():
                worker.stop()


def run_here(trainings: Sequence[Settings], workers: int | None = None) -> Iterator[Outcome]:
    """Run trainings in this process, one after the other, as a debugger wants it."""
    assert workers in {None, 1}
    for settings in trainings:
        yield _attempt_quietly(settings)


def run_on_ray(trainings: Sequence[Settings], workers: int | None = None) -> Iterator[Outcome]:
    """Run trainings as tasks of a Ray cluster, of one core each.

    The cluster is that of `RAY_ADDRESS`, else one on this machine that ends with the trainings. Its
    machines need this package and the same digits.
    """
    if not trainings:
        return
    import ray  # noqa: PLC0415 - an extra

    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    task = ray.remote(num_cpus=1, max_retries=0)(_attempt_quietly)
    waiting = deque(trainings)
    busy: dict[Any, Settings] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < (workers or len(trainings)):
                settings = waiting.popleft()
                busy[task.remote(settings)] = settings
            for done in ray.wait(list(busy))[0]:
                settings = busy.pop(done)
                try:
                    yield ray.get(done)
                except ray.exceptions.RayError as error:
                    yield Outcome(settings, reason=f"Ray could not finish it: {error}")
    finally:
        for task_left in busy:
            ray.cancel(task_left, force=True)
        if is_ours:
            ray.shutdown()


EXECUTORS: dict[str, Executor] = {"local": run_locally, "here": run_here, "ray": run_on_ray}


class _Worker:
    """A process that runs trainings, one at a time."""

    def __init__(self) -> None:
        # Not forked: torch may have threads by now, which a fork would lose.
        self._context = multiprocessing.get_context("spawn")
        self._settings: Settings | None = None
        self._start()

    def submit(self, settings: Settings) -> Connection:
        """Start a training; the connection becomes ready at its end."""
        if not self._process.is_alive():
            self._start()
        self._settings = settings
        with suppress(OSError):  # it died in between: `result` returns that
            self._connection.send(settings)
        return self._connection

    def result(self) -> Outcome:
        """Return how its training ended."""
        assert self._settings is not None
        try:
            outcome: Outcome = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            reason = f"its process ended with exit code {self._process.exitcode}"
            return Outcome(self._settings, reason=reason)
        return outcome

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that its death is the end of the file here


def _serve(connection: Connection) -> None:
    """Run the trainings that come, until this process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        connection.send(_attempt_quietly(connection.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _attempt_quietly(settings: Settings) -> Outcome:
    """Run a training on one thread without output, and restore the process."""
    threads = torch.get_num_threads()
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in _LOGGERS}
    torch.set_num_threads(1)
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = attempt(settings)
    finally:
        torch.set_num_threads(threads)
        for logger, level in levels.items():
            logger.setLevel(level)
    # Trainer and model refer to each other: left to itself a process grew by 10 MB a training.
    gc.collect()
    return outcome


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables that processes begun meanwhile inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
