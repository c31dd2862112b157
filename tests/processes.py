"""Real processes for tests, forked from one that has imported torch and Lightning.

An interpreter takes seconds to import them; a fork of one that has, a hundredth. It is another
process than that of the tests: the types in the signatures are not checked there.
"""

import multiprocessing
import os
import socket
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

SECONDS = 150  # a hang fails
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["lightning_id.callback", "lightning_id.metrics", "tests.toys"])


def in_process(function: Callable[..., Any], *args: Any, **environment: str) -> Any:
    """Return what a function returns in a process of its own."""
    return in_processes(function, [args], [environment])[0]


def in_ranks(function: Callable[..., Any], *args: Any, n: int = 2) -> list[Any]:
    """Return what a function returns on each of n ranks, with the environment of a launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(n)}
    ranks = [group | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(n)]
    return in_processes(function, [args] * n, ranks)


def in_processes(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    environments: Sequence[Mapping[str, str]],
) -> list[Any]:
    """Return what a function returns for each tuple of arguments, all at the same time.

    Raises:
        AssertionError: If a process fails, dies or hangs, with all that each printed.
    """
    started = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (args, environment) in enumerate(zip(arguments, environments, strict=True)):
            receiver, sender = CONTEXT.Pipe(duplex=False)
            surroundings = (Path(folder, str(number)), Path.cwd(), dict(environment))
            process = CONTEXT.Process(target=_run, args=(sender, surroundings, function, args))
            process.start()
            sender.close()  # the end of the process is the end of the pipe
            started.append((process, receiver))
        found = [_received(process, receiver) for process, receiver in started]
        printed = [path.read_text() for path in sorted(Path(folder).iterdir())]
    failures = [f"process {i}: {error}" for i, (fine, error) in enumerate(found) if not fine]
    assert not failures, "\n".join(failures + printed)
    return [result for _, result in found]


def _received(process: Any, receiver: Connection) -> tuple[bool, Any]:
    """Return whether a process succeeded, and its result or the reason."""
    try:
        fine, result = receiver.recv() if receiver.poll(SECONDS) else (False, "no result in time")
    except EOFError:
        process.join()
        return False, f"ended with exit code {process.exitcode}"
    process.join(5)
    process.kill()
    return fine, result


def _run(
    sender: Connection,
    surroundings: tuple[Path, Path, dict[str, str]],
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    """Run a function, in another process: send its result, or the traceback of its failure."""
    log, folder, environment = surroundings
    with log.open("wb") as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    os.chdir(folder)
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        sender.send((True, function(*args)))
    except BaseException:
        sender.send((False, traceback.format_exc()))
