"""Processes that meet and work together, and what each of them said."""

import subprocess
import sys
from collections.abc import Sequence

SECONDS = 150  # a hang fails


def run_ranks(words: Sequence[str], n: int = 2, **options: object) -> list[str]:
    """Run ``python *words`` n times at once, "RANK" being the number; return what each prints.

    Raises:
        AssertionError: If one of them fails or hangs; it says what every one wrote to stderr.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, *(str(rank) if word == "RANK" else word for word in words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        for rank in range(n)
    ]
    said = []
    for process in processes:
        try:
            said.append(process.communicate(timeout=SECONDS))
        except subprocess.TimeoutExpired:
            for each in processes:  # those that are left would wait for this one
                each.kill()
            said.append(process.communicate())
    codes = [process.returncode for process in processes]
    assert codes == [0] * n, "\n".join(f"rank {i}: {text}" for i, (_, text) in enumerate(said))
    return [printed for printed, _ in said]
