"""When to measure: schedules, which YAML can write, and the share of a fit's time."""

import math
import time
from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_id._checks import whole_number
from lightning_id.callback.failures import FailurePolicy


class Schedule(ABC):  # noqa: B024 - either method will do, and both have a default
    """Validations and training steps at which to measure. In YAML: class_path and init_args.

    A subclass overrides `at_validation`, `at_step`, or both.
    """

    @property
    def has_validations(self) -> bool:
        """Whether any validation is measured."""
        return type(self).at_validation is not Schedule.at_validation

    @property
    def has_steps(self) -> bool:
        """Whether any training step is measured."""
        return type(self).at_step is not Schedule.at_step

    def at_validation(self, validation: int) -> bool:  # noqa: ARG002
        """Return whether to measure after so many validations, sanity checks not counted."""
        return False

    def at_step(self, step: int) -> bool:  # noqa: ARG002
        """Return whether to measure, in a separate pass, after so many optimiser steps."""
        return False


@dataclass(frozen=True)
class EveryNValidations(Schedule):
    """Measure the first validation and every n-th after it.

    Attributes:
        n: Validations from one measurement to the next, at least 1.

    Example:
        >>> [EveryNValidations(2).at_validation(i) for i in range(4)]
        [True, False, True, False]
    """

    n: int = 1

    def __post_init__(self) -> None:
        whole_number("n", self.n, least=1)

    def at_validation(self, validation: int) -> bool:
        """Return whether the validation is an n-th one."""
        return validation % self.n == 0


@dataclass(frozen=True)
class AtSteps(Schedule):
    """Measure after the listed steps, and then at every multiple of a number.

    Attributes:
        steps: Numbers of optimiser steps; 0 is before the first.
        then_every: Beyond the last of them, measure at its multiples; None for no more.

    Example:
        >>> schedule = AtSteps([0, 2, 5], then_every=4)
        >>> [step for step in range(14) if schedule.at_step(step)]
        [0, 2, 5, 8, 12]
    """

    steps: Sequence[int]
    then_every: int | None = None

    def __post_init__(self) -> None:
        for step in self.steps:
            whole_number("steps", step, least=0)
        if self.then_every is not None:
            whole_number("then_every", self.then_every, least=1)

    def at_step(self, step: int) -> bool:
        """Return whether the step is listed, or a multiple beyond the list."""
        if step <= max(self.steps, default=-1) or self.then_every is None:
            return step in self.steps
        return step % self.then_every == 0


@dataclass(frozen=True)
class LogSpaced(Schedule):
    """Measure before training and after steps in equal ratios: often at first, then seldom.

    Attributes:
        per_decade: Measurements while the number of steps grows tenfold, at least 1.

    Example:
        >>> [step for step in range(200) if LogSpaced(3).at_step(step)]
        [0, 1, 2, 5, 10, 22, 46, 100]
    """

    per_decade: int = 4

    def __post_init__(self) -> None:
        whole_number("per_decade", self.per_decade, least=1)

    def at_step(self, step: int) -> bool:
        """Return whether the step is 0 or a rounded 10^(i / per_decade)."""
        if step == 0:
            return True
        nearest = round(self.per_decade * math.log10(step))
        return any(
            round(10 ** (i / self.per_decade)) == step for i in (nearest - 1, nearest, nearest + 1)
        )


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
