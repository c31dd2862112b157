"""Real processes for tests, forked from one that has imported torch and Lightning.

An interpreter takes seconds to import them; a fork of one that has, a hundredth. It is another
process than that of the tests: the types in the signatures are not checked there.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

SECONDS = 150  # a hang fails
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["lightning_id.callback", "lightning_id.metrics", "lightning_id.study.training", "tests.toys"]
)


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
    _settle(*surroundings)
    try:
        sender.send((True, function(*args)))
    except BaseException:
        sender.send((False, traceback.format_exc()))


def _settle(log: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Give this process its output, its working folder and its environment."""
    with log.open("wb") as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    os.chdir(folder)
    os.environ.update(environment)
    torch.set_num_threads(1)


def fork_commands(patch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Let the Python commands that a module starts be forks, until the patch is undone."""
    started = {"Popen": ForkedCommand, "run": _run_forked}
    patch.setattr(module, "subprocess", SimpleNamespace(**vars(subprocess) | started))


class ForkedCommand:
    """A stand-in of `subprocess.Popen` for Python with ``-c CODE``, ``-m MODULE`` or a script.

    A process like that, in a session of its own, without the seconds of its imports. Its standard
    input is closed when this process ends.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        stdout: Any,
        env: Mapping[str, str],
        cwd: Path | None = None,
        **_: Any,
    ) -> None:
        given, self._given = CONTEXT.Pipe(duplex=False)
        surroundings = Path(stdout.name), cwd or Path.cwd(), dict(env)
        self._process = CONTEXT.Process(
            target=_run_command, args=(given, surroundings, *map(str, command[1:]))
        )
        self._process.start()
        given.close()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code of the process; None while it runs."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Wait for the end of the process, and return its exit code."""
        self._process.join()
        self._given.close()
        return self._process.exitcode


def _run_forked(
    command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], check: bool
) -> None:
    with tempfile.NamedTemporaryFile() as log:
        code = ForkedCommand(command, stdout=log, env=env, cwd=cwd).wait()
        if check and code:
            raise subprocess.CalledProcessError(code, command, Path(log.name).read_text())


def _run_command(
    given: Connection, surroundings: tuple[Path, Path, dict[str, str]], *words: str
) -> None:
    """Do as the interpreter with these words."""
    os.setsid()
    os.dup2(given.fileno(), 0)
    os.environ.clear()
    _settle(*surroundings)
    match words:
        case "-m", module, *arguments:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case "-c", code, *arguments:
            sys.argv = ["-c", *arguments]
            exec(code, {"__name__": "__main__"})
        case script, *_:
            sys.argv = list(words)
            runpy.run_path(script, run_name="__main__")
