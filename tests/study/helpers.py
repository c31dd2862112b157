"""What several tests of studies need: results without their times, and patience."""

import time
from collections.abc import Callable

TIMED = "seconds", "cpu_seconds"


def numbers(result: dict) -> dict:
    """Return what the same settings give again to the last bit."""
    return {name: value for name, value in result.items() if name not in TIMED}


def until(holds: Callable[[], object], seconds: float = 200) -> None:
    """Wait for something that comes true within so many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
