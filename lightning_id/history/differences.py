"""Differences of two estimates in a history, with the paired error bar where it was recorded."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lightning_id.functional.estimate import NORMAL_975
from lightning_id.history.records import Estimated

Pair = tuple[float, float]  # a difference and its standard error


class Difference(NamedTuple):
    """A difference of two dimensions."""

    value: float
    std_error: float  # NaN if there is none
    is_paired: bool  # else from two separate errors, too large where the samples are the same

    def __str__(self) -> str:
        """Return the value with half of its 95 % interval."""
        bar = "" if math.isnan(self.std_error) else f" ± {NORMAL_975 * self.std_error:.2f}"
        return f"{self.value:+.2f}{bar}"

    @property
    def is_increase(self) -> bool:
        """Whether the 95 % interval is above 0."""
        return self.value > NORMAL_975 * self.std_error

    @property
    def is_decrease(self) -> bool:
        """Whether the 95 % interval is below 0."""
        return -self.value > NORMAL_975 * self.std_error

    def minus(self, other: "Difference") -> "Difference":
        """Return the difference of two differences, with the sum of their bars: an upper limit."""
        return Difference(
            self.value - other.value,
            self.std_error + other.std_error,
            self.is_paired and other.is_paired,
        )


def since(now: Estimated, then: Estimated) -> Difference:
    """Return the change of a layer from one measurement to a later one."""
    pairs = _pairs(now, "change", "change_previous", "change_lowest")
    return _difference(now, then, pairs)


def between(layer: Estimated, other: Estimated) -> Difference:
    """Return the value of a layer minus that of another one of the same measurement."""
    reverse = [(-value, error) for value, error in _pairs(other, "from_input", "from_peak")]
    return _difference(layer, other, [*_pairs(layer, "from_input", "from_peak"), *reverse])


def separate(high: Estimated, low: Estimated) -> Difference:
    """Return a difference with the error bar of independent samples."""
    errors = (high["std_error"], low["std_error"])
    bar = math.hypot(*(math.nan if error is None else error for error in errors))
    return Difference(high["value"] - low["value"], bar, is_paired=False)


def _pairs(record: Mapping[str, Any], *columns: str) -> list[Pair]:
    """Return the recorded differences that have an error bar."""
    pairs = ((record[name], record[f"{name}_std_error"]) for name in columns)
    return [
        (value, error)
        for value, error in pairs
        if value is not None and error is not None and math.isfinite(error)
    ]


def _difference(record: Estimated, other: Estimated, recorded: Iterable[Pair]) -> Difference:
    """Return the recorded pair that is the difference of two records, else the `separate` one."""
    value = record["value"] - other["value"]
    for difference, std_error in recorded:
        if math.isclose(difference, value, rel_tol=1e-9, abs_tol=1e-9):
            return Difference(value, std_error, is_paired=True)
    return separate(record, other)
