"""The share of a fit's time that measuring may take."""

import math
import time
from collections.abc import Callable

from lightning_id.callback.failures import FailurePolicy


class Budget:
    """Compares the seconds spent on measuring with the seconds since the fit began."""

    def __init__(self, share: float | None, failures: FailurePolicy) -> None:
        if share is not None and not (isinstance(share, int | float) and 0 < share < 1):
            raise ValueError(f"`max_overhead`: expected a share in (0, 1), got {share!r}")
        self.share = share
        self._failures = failures
        self.spent = 0.0  # seconds
        self._started = math.nan

    def start(self) -> None:
        """Begin to count, at the start of a fit."""
        self.spent, self._started = 0.0, time.monotonic()

    def spend(self, seconds: int | float) -> None:
        """Add the seconds of a measurement."""
        self.spent += seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the fit began; NaN before."""
        return time.monotonic() - self._started

    def allows(self, broadcast: Callable[[tuple[float, float]], tuple[float, float]]) -> bool:
        """Return whether the share is kept, by the clock of rank 0; warn once if it is not."""
        if self.share is None:
            return True
        spent, elapsed = broadcast((self.spent, self.elapsed))
        if spent <= self.share * elapsed:
            return True
        self._failures.report_once(
            f"not every measurement is made: {spent:.1f} s of {elapsed:.1f} s went into measuring,"
            f" more than max_overhead={self.share:g}",
            key="budget",
        )
        return False
