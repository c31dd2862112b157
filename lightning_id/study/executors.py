"""Where the trainings of a study run: processes of this machine, or of a Ray cluster."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from lightning_id.study.grid import Resources
from lightning_id.study.training import FAILURE, LOG, REHEARSAL, RESULT, write_json

Executor = Callable[[Sequence[Path], int | None, Resources], Iterator[Path]]
Environment = Mapping[str, str]

# Read by OpenMP, OpenBLAS and MKL when they are loaded.
_THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
_CHILD = "from lightning_id.study.training import run_child; run_child()"
_LARGEST = 2**24  # bytes of a file that is sent back by a cluster


class Processes:
    """The processes that train; closed, it kills them and lets no other begin."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def run(self, folder: Path, environment: Environment, *options: str) -> None:
        """Run the process of a training to its end; its folder says how it ended."""
        with (folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(folder), *options],
                stdin=subprocess.PIPE,  # closed by our end, whatever that is
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,  # an interrupt from the keyboard is ours alone
            )
        self._running.add(process)
        if self._is_closed:
            _kill(process)
        code = process.wait()
        self._running.discard(process)
        if not any((folder / name).exists() for name in (RESULT, FAILURE, REHEARSAL)):
            write_json(folder / FAILURE, {"reason": f"its process ended with exit code {code}"})

    def close(self) -> None:
        """Kill all processes, and all that begin later."""
        self._is_closed = True
        for process in list(self._running):
            _kill(process)


def run_locally(
    folders: Sequence[Path], workers: int | None, resources: Resources
) -> Iterator[Path]:
    """Run trainings in processes of this machine, so many at a time."""
    environments: SimpleQueue[Environment] = SimpleQueue()
    several = _environments(workers, resources)
    for environment in several:
        environments.put(environment)
    processes = Processes()

    def run(folder: Path) -> Path:
        environment = environments.get()
        processes.run(folder, environment)
        environments.put(environment)
        return folder

    with ThreadPoolExecutor(len(several)) as pool:
        futures = [pool.submit(run, folder) for folder in folders]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.close()


def run_on_ray(
    folders: Sequence[Path], workers: int | None, resources: Resources
) -> Iterator[Path]:
    """Run trainings as tasks of a Ray cluster, that of `RAY_ADDRESS` or one on this machine.

    Its machines need the same packages, modules and data. The files of a training, up to 16 MiB
    each, are sent back where the machines share no folder.
    """
    if not folders:
        return
    import ray  # noqa: PLC0415 - an extra

    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    needs = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": 0}
    task = ray.remote(**needs)(_run_sent)
    waiting = list(folders)
    running: dict[Any, Path] = {}
    threads = dict.fromkeys(_THREADS, str(resources.cpus))
    environment = {**threads, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    try:
        while waiting or running:
            while waiting and len(running) < (workers or len(folders)):
                folder = waiting.pop(0)
                running[task.remote(folder, _files(folder), environment)] = folder
            for done in ray.wait(list(running))[0]:
                folder = running.pop(done)
                try:
                    _write(folder, ray.get(done))
                except ray.exceptions.RayError as error:
                    write_json(folder / FAILURE, {"reason": f"Ray could not finish it: {error}"})
                yield folder
    finally:
        for left in running:
            ray.cancel(left, force=True)
        if is_ours:
            ray.shutdown()


EXECUTORS: dict[str, Executor] = {"local": run_locally, "ray": run_on_ray}


def _run_sent(
    folder: Path, files: Mapping[str, bytes], environment: Environment
) -> dict[str, bytes]:
    """Run a training on the machine of a cluster, and return the files of its folder."""
    _write(folder, files)
    Processes().run(folder, environment)
    return _files(folder)


def _files(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.iterdir() if path.is_file()]
    return {path.name: path.read_bytes() for path in files if path.stat().st_size <= _LARGEST}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # The file that marks a finished training comes last.
    for name in sorted(files, key=(RESULT, FAILURE).__contains__):
        if not (folder / name).exists():
            (folder / name).write_bytes(files[name])


def _environments(workers: int | None, resources: Resources) -> list[Environment]:
    """Return variables for each training at a time: its threads and the GPUs that it sees."""
    threads = dict.fromkeys(_THREADS, str(resources.cpus))
    if not resources.gpus:
        return [threads] * (workers or max(1, _cores() // resources.cpus))
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
    most = int(len(gpus) / resources.gpus + 1e-9)
    if not most:
        raise ValueError(f"`resources`: expected at most {len(gpus)} GPUs, got {resources.gpus}")
    places: list[Environment] = []
    for number in range(workers or most):
        first = int(number % most * resources.gpus + 1e-9)
        seen = gpus[first : first + max(1, int(resources.gpus))]
        places.append({**threads, "CUDA_VISIBLE_DEVICES": ",".join(seen)})
    return places


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):  # with the processes that it has begun
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
