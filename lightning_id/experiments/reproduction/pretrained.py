"""Several networks beside each other: does the last hidden dimension go with the error?

The source work found that it does over 14 networks trained on ImageNet (figure 4): Pearson's r is
0.94, and 0.99 among the ResNets; without AlexNet it is 0.88. So r is given over all networks,
within each family and without each network in turn.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from lightning_id.experiments.reproduction.published import published
from lightning_id.figures._data import FEW_COLORS, SMALL, plain
from lightning_id.figures._drawing import footnote, new_figure, tidy
from lightning_id.functional.estimate import NORMAL_975
from lightning_id.history import History, Record, has_value
from lightning_id.history.tables import aligned, value_with_error
from lightning_id.layers import LAST_HIDDEN
from lightning_id.profile.run import ACCURACY
from lightning_id.study.statistics import MIN_UNITS, Correlation, correlate

FEWEST = 3  # points: two are always on a line


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        name: What it is called.
        family: Networks of one design: the name without its numbers.
        last_hidden: The record of its last hidden layer; None if there is none.
        accuracy: Share of the images that it names rightly; NaN if that is not known.
    """

    name: str
    family: str
    last_hidden: Record | None
    accuracy: float

    @property
    def error_of_error(self) -> float:
        """Standard error of the error: that of a share of so many images."""
        n = None if self.last_hidden is None else self.last_hidden.get("n_samples")
        return math.sqrt(self.accuracy * (1 - self.accuracy) / n) if n else math.nan

    @property
    def point(self) -> tuple[float, float] | None:
        """Error and last hidden dimension, if both are known."""
        if self.last_hidden is None or not has_value(self.last_hidden):
            return None
        if math.isnan(self.accuracy):
            return None
        return 1 - self.accuracy, float(self.last_hidden["value"])


def compare(histories: Mapping[str, History]) -> list[Row]:
    """Read the last hidden dimension and the accuracy out of the histories of networks.

    Args:
        histories: By the name of the network; what was measured last counts.

    Returns:
        One row per network, in the order given.
    """
    return [_row(name, history) for name, history in histories.items()]


def published_rows() -> list[Row]:
    """Return the networks of the source work: last hidden dimension and top-5 error on ImageNet."""
    figure = published()["fig4_last_hidden"]
    return [
        Row(name, _family(name), {"value": figure["ID"][name], "reason": None}, 1 - error / 100)
        for name, error in figure["top5_error"].items()
    ]


def correlations(rows: Sequence[Row]) -> list[tuple[str, Correlation]]:
    """Return Pearson's r of last hidden dimension and error, and how sure it is.

    Args:
        rows: The networks; those without a number are left out.

    Returns:
        What was correlated, and how: all networks, the families of more than one, and all without
        each in turn.
    """
    known = [row for row in rows if row.point is not None]
    sizes = Counter(row.family for row in known)
    groups = [(f"all {len(known)} networks", known)]
    for family, size in sizes.items():
        if size > 1:
            groups.append((f"family {family}", [row for row in known if row.family == family]))
    groups += [(f"without {out.name}", [row for row in known if row is not out]) for out in known]
    return [(name, _correlation(group)) for name, group in groups]


def comparison_text(rows: Sequence[Row]) -> str:
    """Return the networks and the correlations as two tables, and what they say.

    Args:
        rows: The networks.

    Returns:
        Text for the terminal.
    """
    cells = [["network", "last hidden ID", "accuracy", "error"]]
    for row in rows:
        last = "-" if row.last_hidden is None else value_with_error(row.last_hidden)
        cells.append([row.name, last, _percent(row.accuracy), _error_in_words(row)])
    found = correlations(rows)
    of_what = [["last hidden ID and error", "Pearson r"]]
    of_what += [[name, _in_words(correlation)] for name, correlation in found]
    parts = [aligned(cells), aligned(of_what), _verdict(found[0][1])]
    without = [row.name for row in rows if row.point is None]
    if without:
        parts.append(f"Not compared, for want of TwoNN or of an error: {', '.join(without)}.")
    counts = sorted({row.last_hidden["n_samples"] for row in rows if row.last_hidden})
    if len(counts) > 1:
        parts.append(
            f"Not comparable: measured on {', '.join(map(str, counts))} samples, and the dimension"
            " depends on how many there are."
        )
    return "\n\n".join(parts)


def write_comparison(rows: Sequence[Row], path: Path) -> None:
    """Write the networks as CSV.

    Args:
        rows: The networks.
        path: The file.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = ("value", "std_error", "n_samples")
        writer.writerow(("network", "family", "last_hidden", *columns[1:], "accuracy", "error"))
        for row in rows:
            record = row.last_hidden or {}
            numbers = [record.get(column) for column in columns]
            writer.writerow((row.name, row.family, *numbers, row.accuracy, 1 - row.accuracy))


def comparison_figure(rows: Sequence[Row]) -> Figure:
    """Draw the last hidden dimension against the error, one colour per family.

    Args:
        rows: The networks; those without a number are left out.

    Returns:
        The figure.
    """
    figure = new_figure()
    axes = figure.subplots()
    families = list(dict.fromkeys(row.family for row in rows))
    for row in rows:
        if row.point is None or row.last_hidden is None:
            continue
        error, value = row.point
        bar = NORMAL_975 * (row.last_hidden["std_error"] or math.nan)
        color = FEW_COLORS[families.index(row.family) % len(FEW_COLORS)]
        axes.errorbar(
            100 * error, value, bar, 100 * NORMAL_975 * row.error_of_error, color=color, fmt="o",
            markersize=4, capsize=3, linewidth=1,
        )  # fmt: skip
        axes.annotate(
            plain(row.name), (100 * error, value), xytext=(5, 4), textcoords="offset points",
            color=color, fontsize=SMALL,
        )  # fmt: skip
    name, correlation = correlations(rows)[0]
    axes.margins(x=0.15)
    axes.set_xlabel("error on these images in %")
    axes.set_ylabel("dimension of the last hidden layer (TwoNN)")
    tidy(axes)
    footnote(figure, [f"{name}: Pearson r {_in_words(correlation)}", "bars: 95 %"])
    return figure


def accuracies(history: History) -> list[tuple[str, float]]:
    """Return the accuracy of each measurement that has one, with its stage."""
    return [(m["stage"], m["value"]) for m in history.metrics if m["name"] == ACCURACY]


def _row(name: str, history: History) -> Row:
    validation = history.validations()[-1]
    last = [r for r in history.at(validation, "twonn") if r["role"] == LAST_HIDDEN]
    accuracy = dict(accuracies(history)).get(validation[0], math.nan)
    return Row(name, _family(name), last[0] if last else None, accuracy)


def _family(name: str) -> str:
    return re.sub(r"\d+", "", name)


def _correlation(rows: Sequence[Row]) -> Correlation:
    points = [row.point for row in rows if row.point is not None]
    # Every network is a unit of its own.
    return correlate([x for x, _ in points], [y for _, y in points], range(len(points)))


def _in_words(correlation: Correlation) -> str:
    r = correlation.pearson
    if correlation.n_runs < FEWEST:
        return f"needs {FEWEST} networks, got {correlation.n_runs}"
    if math.isnan(r.value):
        return "none: all errors or all dimensions are alike"
    if correlation.reason is not None:
        return f"{r.value:.2f}, no interval: needs {MIN_UNITS} networks"
    return f"{r}, p = {r.p:.2g}"


def _verdict(found: Correlation) -> str:
    """Return what an r comes to, by the rule of the study, beside the source work's."""
    if found.n_runs < MIN_UNITS:
        answer = f"It takes {MIN_UNITS} networks to tell; there are {found.n_runs}."
    elif found.reason is not None:
        answer = "Not told: all errors or all dimensions are alike."
    else:
        answer = {
            1: "Reproduced: the higher the dimension, the higher the error.",
            -1: "Not reproduced: the higher the dimension, the lower the error.",
            0: "Not reproduced: no relation is clear (95 % interval and permutation test).",
        }[found.sign]
    theirs = dict(correlations(published_rows()))
    groups = ("all 14 networks", "family resnet", "without alexnet")
    of_theirs = ", ".join(f"{theirs[group].pearson.value:.2f} {group}" for group in groups)
    return f"{answer}\nSource work, top-5 error on ImageNet: r = {of_theirs}."


def _error_in_words(row: Row) -> str:
    if math.isnan(row.error_of_error):
        return _percent(1 - row.accuracy)
    return f"{100 * (1 - row.accuracy):.1f} ± {100 * row.error_of_error:.1f} %"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"
