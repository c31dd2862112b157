"""Where the trainings of a study run: processes of this machine, or of a Ray cluster."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from lightning_id.study.grid import Resources
from lightning_id.study.training import FAILURE, LOG, RESULT, write_json

Executor = Callable[[Sequence[Path], int | None, Resources], Iterator[Path]]

# Read by OpenMP, OpenBLAS and MKL when they are loaded.
_THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
_CHILD = "from lightning_id.study.training import run_child; run_child()"
_LARGEST = 2**24  # bytes of a file that a cluster sends back, for machines that share no folder
_PAUSE = 0.05  # seconds between two looks at the processes


def run_locally(
    folders: Sequence[Path], workers: int | None, resources: Resources
) -> Iterator[Path]:
    """Run trainings in processes of this machine, so many at a time; closed, kill them."""
    waiting, free = list(folders), _environments(workers, resources)
    running: dict[Path, tuple[Any, dict[str, str]]] = {}  # the process, and its environment
    try:
        while waiting or running:
            while waiting and free:
                folder, environment = waiting.pop(0), free.pop(0)
                running[folder] = _start(folder, environment), environment
            for folder in [f for f, (process, _) in running.items() if process.poll() is not None]:
                process, environment = running.pop(folder)
                free.append(environment)
                if not any((folder / name).exists() for name in (RESULT, FAILURE)):
                    reason = f"its process ended with exit code {process.wait()}"
                    write_json(folder / FAILURE, {"reason": reason})
                yield folder
            time.sleep(_PAUSE)
    finally:
        for process, _ in running.values():
            if hasattr(os, "killpg"):  # with the processes that it has begun
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()


def run_on_ray(
    folders: Sequence[Path], workers: int | None, resources: Resources
) -> Iterator[Path]:
    """Run trainings as tasks of a Ray cluster, that of `RAY_ADDRESS` or one on this machine."""
    if not folders:
        return
    import ray  # noqa: PLC0415 - an extra

    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    needs = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": 0}
    task = ray.remote(**needs)(_run_sent)
    waiting, running = list(folders), dict[Any, Path]()
    try:
        while waiting or running:
            while waiting and len(running) < (workers or len(folders)):
                folder = waiting.pop(0)
                running[task.remote(folder, _files(folder), resources.cpus, sys.path)] = folder
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


def _start(folder: Path, environment: Mapping[str, str]) -> Any:
    """Start the process of a training; it imports all that this one does."""
    modules = os.pathsep.join(filter(None, sys.path))
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(folder)],
            stdin=subprocess.PIPE,  # closed by our end, whatever that is
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": modules, **environment},
            start_new_session=True,  # an interrupt from the keyboard is ours alone
        )


def _run_sent(
    folder: Path, files: Mapping[str, bytes], cpus: int, modules: Sequence[str]
) -> dict[str, bytes]:
    """Run a training on the machine of a cluster, and return the files of its folder."""
    sys.path[:] = dict.fromkeys([*modules, *sys.path])
    _write(folder, files)
    for _ in run_locally([folder], 1, Resources(cpus)):  # on the GPUs that Ray has chosen
        pass
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


def _environments(workers: int | None, resources: Resources) -> list[dict[str, str]]:
    """Return variables for each training at a time: its threads and the GPUs that it sees."""
    threads = dict.fromkeys(_THREADS, str(resources.cpus))
    if not resources.gpus:
        can = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if can else os.cpu_count() or 1
        return [threads] * (workers or max(1, cores // resources.cpus))
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
    most = int(len(gpus) / resources.gpus + 1e-9)
    if not most:
        raise ValueError(f"`resources`: expected at most {len(gpus)} GPUs, got {resources.gpus}")
    firsts = [int(number % most * resources.gpus + 1e-9) for number in range(workers or most)]
    seen = [",".join(gpus[first : first + max(1, int(resources.gpus))]) for first in firsts]
    return [threads | {"CUDA_VISIBLE_DEVICES": each} for each in seen]
