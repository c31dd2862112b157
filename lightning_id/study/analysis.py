"""Which correlations of a study are looked at: over all runs, and within groups of like runs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lightning_id.study.runs import Row
from lightning_id.study.statistics import LEVEL, RESAMPLES, Correlation, correlate

OUTCOME = "test_error"
# Numeric settings, without the seed.
FACTORS = (
    "label_noise",
    "n_train",
    "width",
    "depth",
    "dropout",
    "weight_decay",
    "steps",
    "lr",
    "batch_size",
    "n_samples",
)
NOISE, ARCHITECTURE, SEED = "label noise", "architecture", "seed"


class Group(NamedTuple):
    """The correlation over the runs of one label noise, one architecture, or all but the seed."""

    kind: str
    label: str
    correlation: Correlation


@dataclass(frozen=True)
class Analysis:
    """The correlations of a dimension with an outcome, over all runs and within groups.

    The intervals of the groups hold jointly with 95 %; `spread` is the range of the outcome.
    """

    measure: str
    outcome: str
    over_all: Correlation
    groups: list[Group]
    spread: float


def analyse(rows: Sequence[Row], measure: str, outcome: str = OUTCOME) -> Analysis:
    """Correlate a dimension with an outcome over all runs and within groups."""
    known = _with(rows, measure, outcome)
    groups = _groups(known)

    def over(runs: Sequence[Row], kind: str, level: float, resamples: int) -> Correlation:
        return correlation(runs, measure, outcome, level, kind == SEED, resamples)

    # The more intervals there are, the higher the level of each (Bonferroni).
    testable = sum(over(runs, kind, LEVEL, 1).reason is None for kind, _, runs in groups)
    level = 1 - (1 - LEVEL) / max(testable, 1)
    outcomes = [row[outcome] for row in known]
    return Analysis(
        measure=measure,
        outcome=outcome,
        over_all=correlation(known, measure, outcome),
        groups=[
            Group(kind, label, over(runs, kind, level, RESAMPLES)) for kind, label, runs in groups
        ],
        spread=max(outcomes, default=0.0) - min(outcomes, default=0.0),
    )


def correlation(
    rows: Sequence[Row],
    x: str,
    y: str,
    level: float = LEVEL,
    within: bool = False,
    resamples: int = RESAMPLES,
) -> Correlation:
    """Correlate two columns; runs without one of the two numbers are left out."""
    known = _with(rows, x, y)
    a, b, cells = ([row[column] for row in known] for column in (x, y, "cell"))
    return correlate(a, b, cells, level, within, resamples=resamples)


def varied(rows: Sequence[Row], settings: Sequence[str] = FACTORS) -> list[str]:
    """Return which settings differ between runs; by default of the numeric ones but the seed."""
    return [name for name in settings if len({row[name] for row in rows}) > 1]


def _with(rows: Iterable[Row], *columns: str) -> list[Row]:
    return [row for row in rows if all(row[column] is not None for column in columns)]


def _groups(rows: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    by_noise = _split(rows, lambda row: f"label noise {row['label_noise']:g}")
    by_network = _split(rows, lambda row: f"width {row['width']:g}, depth {row['depth']}")
    groups = [
        (kind, label, runs)
        for kind, parts in ((NOISE, by_noise), (ARCHITECTURE, by_network))
        if len(parts) > 1  # else the group is all there is
        for label, runs in parts.items()
    ]
    return [*groups, (SEED, "nothing but the seed differs", list(rows))]


def _split(rows: Iterable[Row], label: Callable[[Row], str]) -> dict[str, list[Row]]:
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(label(row), []).append(row)
    return dict(sorted(parts.items(), key=lambda part: part[0]))
