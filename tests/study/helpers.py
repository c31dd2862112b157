"""Results without their times, and a wait with a limit."""

import time
from collections.abc import Callable

TIMED = "seconds", "cpu_seconds"


def numbers(result: dict) -> dict:
    """Return the numbers that are the same to the last bit in every run of the same settings."""
    return {name: value for name, value in result.items() if name not in TIMED}


def wait_until(holds: Callable[[], object], seconds: float = 200) -> None:
    """Wait until a condition holds, at most so many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
