"""The share of a fit's time that measuring may take."""

import math
import time
from collections.abc import Callable


class Budget:
    """Seconds that were spent on measuring, against those that passed since the fit began.

    Args:
        share: The largest share that may be spent; None for no limit.

    Attributes:
        share: As given.
        spent: Seconds spent on measuring since the fit began.

    Raises:
        ValueError: If the share is not between 0 and 1.

    Example:
        >>> budget = Budget(0.02)
        >>> budget.start()
        >>> budget.spend(60)
        >>> budget.allows(lambda pair: pair)
        False
    """

    def __init__(self, share: float | None) -> None:
        if share is not None and not (isinstance(share, int | float) and 0 < share < 1):
            raise ValueError(f"`max_overhead`: expected a share in (0, 1), got {share!r}")
        self.share = share
        self.spent = 0.0
        self._started = math.nan

    def start(self) -> None:
        """Begin to count: the fit begins."""
        self.spent, self._started = 0.0, time.monotonic()

    def spend(self, seconds: int | float) -> None:
        """Count what a measurement took.

        Args:
            seconds: Its time.
        """
        self.spent += seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the fit began; NaN before."""
        return time.monotonic() - self._started

    def allows(self, broadcast: Callable[[tuple[float, float]], tuple[float, float]]) -> bool:
        """Tell whether another measurement may be made.

        Args:
            broadcast: Gives every process the pair of the first: their clocks differ, and they must
                agree.

        Returns:
            False as long as more than the share was spent.
        """
        if self.share is None:
            return True
        spent, elapsed = broadcast((self.spent, self.elapsed))
        return spent <= self.share * elapsed
