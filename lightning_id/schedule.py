"""When to measure: values that YAML can write."""

from abc import ABC, abstractmethod
from dataclasses import dataclass


class Schedule(ABC):
    """Something that says whether a validation is measured. In YAML: class_path and init_args."""

    @abstractmethod
    def __call__(self, validation: int, step: int) -> bool:
        """Say whether to measure.

        Args:
            validation: Validations run before this one, sanity checks not counted.
            step: Optimiser steps taken.

        Returns:
            True to measure.
        """


@dataclass(frozen=True)
class EveryNValidations(Schedule):
    """Measure the first validation and every n-th after it.

    Attributes:
        n: Validations from one measurement to the next, at least 1.

    Example:
        >>> [EveryNValidations(2)(validation=i, step=0) for i in range(4)]
        [True, False, True, False]
    """

    n: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"`n`: expected at least 1, got {self.n}")

    def __call__(self, validation: int, step: int) -> bool:  # noqa: ARG002
        """Say whether the validation is one of the n-th."""
        return validation % self.n == 0
