"""What the figures know: colours, what is drawn, what is missing, time, names of layers."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from matplotlib import colormaps
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from numpy import linspace

from lightning_id.history import (
    BEFORE_TRAINING,
    History,
    Record,
    Validation,
    estimators_of,
    has_value,
    in_order,
    validation_of,
)

T = TypeVar("T")

# Even in lightness and told apart by colour-blind readers; its yellow end is too pale on white.
COLORS = ListedColormap(colormaps["viridis"](linspace(0, 0.88, 256)))
# Okabe and Ito's, without their yellow: told apart by colour-blind readers.
FEW_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
UNTRAINED = "0.35"
SMALL = 8  # points; at 600 pixels of width still 9 pixels high
FIT = "fit"
LOG_RANGE = 8  # from here on the small values are squeezed on a linear axis
_LABELS = {
    "twonn": "intrinsic dimension (TwoNN)",
    "twonn_gaussian": "TwoNN of a Gaussian of the same covariance",
    "gride": "intrinsic dimension (Gride)",
    "mle": "intrinsic dimension (MLE)",
    "pca": "components for 90 % of the variance",
    "pca_standardized": "components for 90 % of the variance, standardised columns",
    "participation_ratio": "participation ratio",
    "effective_rank": "effective rank",
}


def plain(text: str) -> str:
    """Return text that matplotlib shows as it is: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def label_of(estimator: str) -> str:
    """Return what the axis of an estimator is called."""
    return _LABELS.get(estimator, plain(estimator))


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the items, evenly spaced, with the first and the last.

    Args:
        items: From which to take.
        most: How many at most, at least 2.

    Returns:
        Items in their order.

    Example:
        >>> evenly(range(101), 5)
        [0, 25, 50, 75, 100]
    """
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def strided(count: int, most: int) -> range:
    """Return places of equal distance, from the first on, at most so many.

    Args:
        count: Number of places.
        most: How many at most.

    Returns:
        The places.

    Example:
        >>> list(strided(10, 4))
        [0, 3, 6, 9]
    """
    return range(0, count, max(1, -(-count // most)))


# --- what is drawn -------------------------------------------------------------------------------


def records_of(history: History, estimator: str) -> dict[Validation, list[Record]]:
    """Return the records of an estimator, of all classes together, by measurement.

    Args:
        history: What was measured.
        estimator: For example ``"twonn"``.

    Returns:
        Records in the order of execution, those without a value too.
    """
    found: dict[Validation, list[Record]] = {}  # in one pass: `History.at` makes one for each
    for record in history.records:
        if record["estimator"] == estimator and record["label"] is None:
            found.setdefault(validation_of(record), []).append(record)
    return {validation: in_order(records) for validation, records in found.items()}


def profiles(history: History, estimator: str) -> dict[Validation, list[Record]]:
    """Return the records that can be drawn against depth, by measurement.

    Args:
        history: What was measured.
        estimator: For example ``"twonn"``.

    Returns:
        Records with a value and a depth, in the order of execution; no measurement is without one.
    """
    drawn = {
        validation: [r for r in records if has_value(r) and r["depth"] is not None]
        for validation, records in records_of(history, estimator).items()
    }
    return {validation: records for validation, records in drawn.items() if records}


def last_of(validations: Sequence[Validation]) -> Validation:
    """Return the last measurement of a training: a test that came after it is another set."""
    return ([v for v in validations if v[0] == FIT] or list(validations))[-1]


def course_of(validations: Sequence[Validation]) -> list[Validation]:
    """Return the measurements of a training; all, if there was none."""
    trained = [v for v in validations if v[0] in (BEFORE_TRAINING, FIT)]
    return trained or list(validations)


def missing(history: History, estimator: str) -> str:
    """Say why there is nothing to draw of an estimator.

    Args:
        history: What was measured.
        estimator: For example ``"twonn"``.

    Returns:
        A sentence or two.
    """
    if not history.records:
        return "Nothing was measured."
    records = [r for r in history.records if r["estimator"] == estimator]
    if not records:
        others = ", ".join(estimators_of(history))
        return f"{estimator} was not measured; there is {others}."
    if any(map(has_value, records)):
        return f"No layer with a {estimator} estimate has a depth."
    reasons = Counter(r["reason"] for r in records if r["reason"])
    why = "; ".join(f"{reason} ({count} times)" for reason, count in reasons.most_common(3))
    return f"No layer has a {estimator} estimate. " + (
        f"Reasons: {shortened(why, 400)}." if why else "No reason was recorded."
    )


def samples_in_words(records: Sequence[Record]) -> str:
    """Return on which samples some records rest, for example ``"2000 samples of val"``."""
    counts = sorted({r["n_samples"] for r in records if r["n_samples"] is not None})
    if not counts:
        return ""
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    sets = ", ".join(dict.fromkeys(r["data"] for r in records if r["data"] is not None))
    return f"{many} samples of {sets}" if sets else f"{many} samples"


def metric_by_validation(history: History, metric: str) -> dict[Validation, float]:
    """Return the finite values of a metric by measurement."""
    return {
        validation_of(entry): entry["value"]
        for entry in history.metrics
        if entry["name"] == metric and entry["value"] is not None and math.isfinite(entry["value"])
    }


def missing_metric(history: History, metric: str) -> str:
    """Say that a metric is not there, and which ones were logged."""
    names = list(dict.fromkeys(entry["name"] for entry in history.metrics))
    there = shortened(", ".join(names), 200) if names else "nothing"
    return f"No finite {metric} at these measurements; logged: {there}."


# --- time ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """How the time of a measurement is told.

    Attributes:
        by_step: Whether in steps, else in epochs.
    """

    by_step: bool

    @classmethod
    def of(cls, validations: Iterable[Validation]) -> "Clock":
        """Return the clock that tells measurements apart: by step if an epoch has several.

        Args:
            validations: Stage, epoch and step of each.

        Returns:
            The clock.
        """
        epochs = Counter(epoch for stage, epoch, _ in validations if stage == FIT)
        return cls(by_step=any(count > 1 for count in epochs.values()))

    @property
    def name(self) -> str:
        """What its numbers are."""
        return "training step" if self.by_step else "epochs trained"

    def time(self, validation: Validation) -> int:
        """Return the time of a measurement; 0 before training."""
        stage, epoch, step = validation
        if stage == BEFORE_TRAINING:
            return 0
        # Lightning counts the epoch in which it is from 0; after a fit it counts those that ended.
        return step if self.by_step else epoch + (stage == FIT)

    def words(self, validation: Validation) -> str:
        """Return stage and time of a measurement, for example ``"epochs trained: 3"``."""
        stage, time = validation[0], self.time(validation)
        if stage == BEFORE_TRAINING:
            return "before training"
        if stage == FIT:
            return f"{self.name}: {time}"
        # A network that was validated as it came: how long it was trained is not known.
        return f"{stage}, {self.name}: {time}" if time else stage


def is_skewed(times: Iterable[int]) -> bool:
    """Tell whether times crowd at the beginning, so that a logarithmic scale shows them better."""
    late = sorted(t for t in times if t > 0)
    return bool(late) and late[-1] > LOG_RANGE * late[len(late) // 2]


def norm_of(times: Sequence[int]) -> Normalize:
    """Return the scale of the colours of times."""
    if is_skewed(times):
        return LogNorm(max(min(times), 1), max(times), clip=True)
    return Normalize(min(times), max(*times, min(times) + 1))


# --- values and layers ---------------------------------------------------------------------------


def has_band(record: Record) -> bool:
    """Tell whether a record has a 95 % interval."""
    ends = (record["low"], record["high"])
    return all(end is not None and math.isfinite(end) for end in ends)


def shortened(text: str, most: int) -> str:
    """Return text of at most so many letters, with an ellipsis for its middle.

    Args:
        text: Any.
        most: Letters, at least 3.

    Returns:
        The text. Its end is kept longer than its beginning: names of layers differ there.

    Example:
        >>> shortened("encoder.stages.3.blocks.17", 16)
        'encod….blocks.17'
    """
    if len(text) <= most:
        return text
    head = (most - 1) // 3
    return text[:head] + "…" + text[len(text) - (most - 1 - head) :]


def short_names(layers: Sequence[str], most: int = 16) -> dict[str, str]:
    """Return names of layers that fit under a tick, each still its own.

    The part before the dots that all dotted names begin with is left out.

    Args:
        layers: Names.
        most: Letters.

    Returns:
        Short name by name.

    Example:
        >>> short_names(["input", "net.conv1", "net.conv2"])
        {'input': 'input', 'net.conv1': 'conv1', 'net.conv2': 'conv2'}
    """
    dotted = [name.split(".")[:-1] for name in layers if "." in name]
    common = _common_parts(dotted) if len(dotted) > 1 else 0
    short = {name: ".".join(name.split(".")[common:]) if "." in name else name for name in layers}
    short = short if len(set(short.values())) == len(set(layers)) else {n: n for n in layers}
    cut = {name: shortened(text, most) for name, text in short.items()}
    twice = Counter(cut.values())
    return {
        name: plain(text if twice[text] == 1 else f"{i}: {shortened(text, most - 4)}")
        for i, (name, text) in enumerate(cut.items())
    }


def _common_parts(names: list[list[str]]) -> int:
    alike = [len(set(parts)) == 1 for parts in zip(*names, strict=False)]
    return alike.index(False) if False in alike else len(alike)
