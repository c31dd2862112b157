"""Which correlations of a study are looked at: over all runs, and within groups of like runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from lightning_id.study.statistics import LEVEL, RESAMPLES, Correlation, correlate
from lightning_id.study.table import (
    SEED_NAME,
    Outcome,
    Row,
    metric_of,
    outcome_of,
    rows_of,
    write_csv,
)

_TITLES = {  # of predictors, whose columns end in a sample set
    "last_hidden_": "last hidden dimension",
    "peak_over_last_": "peak / last hidden dimension",
    "peak_depth_": "depth of the peak",
    "peak_": "peak dimension",
}
SEED = "seed"  # the kind of the group in which nothing but the seed differs

Groups = Mapping[str, str | Sequence[str]] | Sequence[str]


class Group(NamedTuple):
    """The correlation over runs that have the settings of `kind` in common, and without them."""

    kind: str
    label: str
    correlation: Correlation
    without: Correlation | None = None


@dataclass(frozen=True)
class Relation:
    """The correlations of a dimension with an error, over all runs and within groups.

    The intervals of the groups hold jointly with 95 %; `low` and `high` are the range of the error.
    """

    over_all: Correlation
    groups: list[Group]
    low: int | float
    high: int | float


@dataclass(frozen=True)
class Analysis:
    """The relations of a table of runs, of which `verdict` and `study_page` speak."""

    rows: list[Row]
    error: str
    relations: dict[str, Relation]
    settings: list[str]
    others: list[str] = field(default_factory=list)
    outcome: str = ""  # the error as it was asked for: a metric, or one less it

    def is_share(self, column: str) -> bool:
        """Return whether a column of errors is shown in percent: a loss below 1 is no share."""
        is_loss = self.outcome and not metric_of(self.outcome)[1]
        return not is_loss and all(abs(row[column] or 0) <= 1 for row in self.rows)

    def save(self, page: str | Path, command: str = "", error: str = "", title: str = "") -> Path:
        """Write a page in Markdown, and figure and table next to it, with the same name.

        Args:
            page: The Markdown file.
            command: How the page is made again, for its first line.
            error: Description of the error for its first section.
            title: Name of the study, for its headline.

        Returns:
            The page.
        """
        from lightning_id.study.figure import draw_study  # noqa: PLC0415 - they import this module
        from lightning_id.study.page import study_page  # noqa: PLC0415

        page = Path(page)
        page.parent.mkdir(parents=True, exist_ok=True)
        picture, table = page.with_suffix(".png"), page.with_suffix(".csv")
        write_csv(table, self.rows)
        named = replace(self, outcome=error or self.outcome)
        draw_study(named).savefig(picture)
        text = study_page(named, picture.name, table.name, command, title)
        page.write_text(text, encoding="utf-8")
        return page


def analyse(
    table: Any,
    error: str = "error",
    predictors: Sequence[str] = ("last_hidden_val",),
    groups: Groups | None = None,
    settings: Sequence[str] | None = None,
    others: Sequence[str] = (),
) -> Analysis:
    """Correlate dimensions with an error, over all runs and within groups of like runs.

    Runs that differ in nothing but their seed are a cell, see `lightning_id.study.statistics`: the
    runs of one value of the column ``cell``, else of equal settings.

    Args:
        table: A row for each run: mappings, or a data frame of pandas. Runs without one of the
            numbers are left out.
        error: The column to predict, larger for worse, or one less it, as ``"1 - val_acc"``.
        predictors: Columns of dimensions; each gets a verdict.
        groups: Within which runs to look: names and the columns that runs of one group have in
            common, for example ``{"architecture": ["width", "depth"]}``, or columns. None for each
            setting that varies.
        settings: Columns that hold settings; None for the ones of the groups.
        others: Further dimensions, of which only the correlation is shown.

    Returns:
        The correlations.

    Raises:
        ValueError: If there is no row, or no such column.

    Example:
        >>> rows = [{"id": i, "error": i % 7, "noise": i % 2} for i in range(30)]
        >>> found = analyse(rows, predictors=["id"], groups=["noise"]).relations["id"]
        >>> found.over_all.n_runs, [group.label for group in found.groups]
        (30, ['noise 0', 'noise 1', 'nothing but the seed differs'])
    """
    rows = rows_of(table)
    metric, is_share = metric_of(error)
    if is_share:
        _check_columns(rows, [metric])
        rows, error = [outcome_of(Outcome(error), row) | row for row in rows], "error"
    named = _named(groups or ())
    grouping = [column for columns in named.values() for column in columns]
    known = list(dict.fromkeys([*grouping, *(settings or ())]))
    _check_columns(rows, [error, *predictors, *others, *known])
    known = varied(rows, known)
    rows = [_with_cell(row, number, known) for number, row in enumerate(rows)]
    if groups is None:
        named = _named([name for name in known if name != SEED_NAME])
    relations = {each: _relation(rows, each, error, named) for each in predictors}
    return Analysis(rows, error, relations, known, list(others))


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


def varied(rows: Sequence[Row], settings: Sequence[str]) -> list[str]:
    """Return which settings differ between runs."""
    return [name for name in settings if len({row[name] for row in rows}) > 1]


def title_of(name: str) -> str:
    """Return the title of a column: ``"peak / last hidden dimension (val)"``, ``"label noise"``."""
    for start, title in _TITLES.items():
        if name.startswith(start):
            return f"{title} ({name.removeprefix(start)})"
    return name.replace("_", " ")


def _relation(
    rows: Sequence[Row], predictor: str, error: str, named: Mapping[str, Sequence[str]]
) -> Relation:
    known = _with(rows, predictor, error)
    groups = _groups(known, named)

    def over(runs: Sequence[Row], kind: str, level: float, resamples: int) -> Correlation:
        return correlation(runs, predictor, error, level, kind == SEED, resamples)

    # The more intervals there are, the higher the level of each (Bonferroni).
    testable = sum(over(runs, kind, LEVEL, 1).reason is None for kind, _, runs in groups)
    level = 1 - (1 - LEVEL) / max(testable, 1)
    found = []
    for kind, label, runs in groups:
        numbers = {id(row) for row in runs}
        rest = [row for row in known if id(row) not in numbers]
        without = None if kind == SEED else correlation(rest, predictor, error)
        found.append(Group(kind, label, over(runs, kind, level, RESAMPLES), without))
    errors = [row[error] for row in known] or [0.0]
    return Relation(correlation(known, predictor, error), found, min(errors), max(errors))


def _groups(
    rows: list[Row], named: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, list[Row]]]:
    """Return the kind, the label and the runs of each group."""
    found = []
    for kind, columns in named.items():
        parts: dict[str, list[Row]] = {}
        for row in sorted(rows, key=lambda row: [order_of(row[name]) for name in columns]):
            label = ", ".join(f"{title_of(name)} {value_text(row[name])}" for name in columns)
            parts.setdefault(label, []).append(row)
        if len(parts) > 1:  # else the group is all there is
            found += [(kind, label, runs) for label, runs in parts.items()]
    return [*found, (SEED, "nothing but the seed differs", rows)]


def _named(groups: Groups) -> dict[str, list[str]]:
    """Return the columns that the runs of a group have in common, by the name of the kind."""
    named = groups.items() if isinstance(groups, Mapping) else [(title_of(g), g) for g in groups]
    return {name: [c] if isinstance(c, str) else list(c) for name, c in named}


def _check_columns(rows: Sequence[Row], columns: Sequence[str]) -> None:
    if not rows:
        raise ValueError("`table`: expected at least one run, got none")
    for column in columns:
        if column not in rows[0]:
            raise ValueError(f"`table`: expected a column {column!r}, got {', '.join(rows[0])}")


def _with_cell(row: Row, number: int, settings: Sequence[str]) -> Row:
    if "cell" in row:
        return row
    values = [f"{name} {row[name]}" for name in settings if name != SEED_NAME]
    return {"cell": ", ".join(values) or f"run {number}", **row}


def _with(rows: Iterable[Row], *columns: str) -> list[Row]:
    return [row for row in rows if all(row[column] is not None for column in columns)]


def order_of(value: Any) -> tuple[bool, Any]:
    """Return a key that sorts settings: numbers, missing ones, all others as text."""
    is_number = isinstance(value, (int, float))
    return not is_number, value if is_number else "" if value is None else str(value)


def value_text(value: Any) -> str:
    """Return a setting as text."""
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
