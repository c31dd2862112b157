"""Choices behind a figure that need no matplotlib: times, names, and texts for missing data."""

import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lightning_id.functional import estimator_spec
from lightning_id.history import BEFORE_TRAINING, FIT, History, Record, Validation, has_value
from lightning_id.history.queries import (
    estimators,
    has_several_per_epoch,
    metric_names,
    metric_values,
)

T = TypeVar("T")

LOG_RANGE = 8  # largest over smallest; above, the small values are squeezed on a linear axis


def escape_mathtext(text: str) -> str:
    """Return text that matplotlib shows as it is: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def axis_label(estimator: str) -> str:
    """Return the label of an axis with values of an estimator."""
    return escape_mathtext(estimator_spec(estimator).axis_label)


def metric_label(metric: str, most: int = 20) -> str:
    """Return the label of an axis with values of a metric, of at most so many letters."""
    return escape_mathtext(shortened(metric, most))


def subsample_evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most ``most`` (at least 2) items, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def tick_positions(count: int, most: int) -> range:
    """Return at most ``most`` positions at equal distances, from the first on."""
    return range(0, count, max(1, -(-count // most)))


def band(record: Record) -> tuple[float, float] | None:
    """Return the ends of the 95 % interval of a record, None if it has none."""
    low, high = record["low"], record["high"]
    if low is None or high is None or not math.isfinite(high - low):
        return None
    return low, high


# --- missing data --------------------------------------------------------------------------------


def explain_missing(history: History, estimator: str) -> str:
    """Return a sentence or two on why nothing can be drawn of an estimator."""
    if not history.records:
        return "Nothing was measured."
    records = [r for r in history.records if r["estimator"] == estimator]
    if not records:
        return f"{estimator} was not measured; there is {', '.join(estimators(history))}."
    if any(map(has_value, records)):
        return f"No layer with a {estimator} estimate has a depth."
    reasons = Counter(r["reason"] for r in records if r["reason"])
    why = "; ".join(f"{reason} ({count} times)" for reason, count in reasons.most_common(3))
    return f"No layer has a {estimator} estimate. " + (
        f"Reasons: {shortened(why, 400)}." if why else "No reason was recorded."
    )


def explain_missing_metric(history: History, metric: str) -> str:
    """Return a sentence on a metric without a value, with the metrics that were logged."""
    names = metric_names(history)
    logged = shortened(", ".join(names), 200) if names else "nothing"
    return f"No finite {metric} at these measurements; logged: {logged}."


def without_value(histories: Iterable[str], drawn: Container[str]) -> str:
    """Return a text that names the histories of which nothing is drawn; empty if all are."""
    without = ", ".join(name for name in histories if name not in drawn)
    return f"without a value: {shortened(without, 150)}" if without else ""


# --- time ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """The unit of a time axis: steps where an epoch has several measurements, else epochs."""

    by_step: bool

    @classmethod
    def of(cls, validations: Iterable[Validation]) -> "Clock":
        """Return the clock that separates the measurements."""
        return cls(has_several_per_epoch(validations))

    @property
    def name(self) -> str:
        """Label of the axis."""
        return "training step" if self.by_step else "epochs trained"

    def time(self, validation: Validation) -> int:
        """Return the time of a measurement; 0 before training."""
        if validation.stage == BEFORE_TRAINING:
            return 0
        # Lightning counts the running epoch from 0; after a fit, the finished ones.
        return validation.step if self.by_step else validation.epoch + (validation.stage == FIT)


def metric_course(
    history: History, metric: str, clock: Clock, shown: Container[Validation]
) -> list[tuple[int, float]]:
    """Return times and values of a metric, of the fit and of the measurements shown."""
    values = metric_values(history, metric)
    return sorted((clock.time(v), values[v]) for v in values if v in shown or v.stage == FIT)


def is_skewed(times: Iterable[int]) -> bool:
    """Return whether times crowd at the beginning, so that a logarithmic scale shows more."""
    late = sorted(t for t in times if t > 0)
    return bool(late) and late[-1] > LOG_RANGE * late[len(late) // 2]


# --- names of layers -----------------------------------------------------------------------------


def shortened(text: str, most: int) -> str:
    """Return text of at most ``most`` letters, with an ellipsis for its middle."""
    # More of its end is kept than of its beginning: names of layers differ at the end.
    if len(text) <= most:
        return text
    head = (most - 1) // 3
    return text[:head] + "…" + text[len(text) - (most - 1 - head) :]


def short_names(layers: Sequence[str], most: int = 16) -> dict[str, str]:
    """Return distinct names of at most ``most`` letters, without the prefix that all share.

    The number of a module keeps the name of its container.

    >>> short_names(["input", "net.conv1", "net.conv2"])
    {'input': 'input', 'net.conv1': 'conv1', 'net.conv2': 'conv2'}
    >>> short_names(["net.layer1.0", "net.layer1.1"])
    {'net.layer1.0': 'layer1.0', 'net.layer1.1': 'layer1.1'}
    """
    dotted = [name.split(".") for name in layers if "." in name]
    common = _common_parts([parts[:-1] for parts in dotted]) if len(dotted) > 1 else 0
    while common and any(parts[common].isdigit() for parts in dotted):
        common -= 1
    short = {name: ".".join(name.split(".")[common:]) if "." in name else name for name in layers}
    short = short if len(set(short.values())) == len(set(layers)) else {n: n for n in layers}
    cut = {name: shortened(text, most) for name, text in short.items()}
    twice = Counter(cut.values())
    return {
        name: escape_mathtext(text if twice[text] == 1 else f"{i}: {shortened(text, most - 4)}")
        for i, (name, text) in enumerate(cut.items())
    }


def _common_parts(names: list[list[str]]) -> int:
    same = [len(set(parts)) == 1 for parts in zip(*names, strict=False)]
    return same.index(False) if False in same else len(same)
