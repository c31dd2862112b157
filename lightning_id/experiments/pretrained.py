"""Networks side by side: does the last hidden dimension go with the error?

Ansuini et al. (2019, figure 4) found that it does over 14 networks trained on ImageNet: Pearson's r
is 0.94, and 0.99 among the ResNets; without AlexNet it is 0.88. So r is given over all networks,
within each family and without each network in turn.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from matplotlib.figure import Figure

from lightning_id.figures._data import escape_mathtext
from lightning_id.figures._drawing import FEW_COLORS, SMALL, footnote, new_figure, style_axes
from lightning_id.functional.estimate import NORMAL_975
from lightning_id.history import History, Record
from lightning_id.history.queries import last_hidden, last_of_fit
from lightning_id.history.tables import aligned, value_with_error
from lightning_id.profile import command
from lightning_id.profile.networks import LITE
from lightning_id.profile.run import accuracies
from lightning_id.study.analysis import correlation
from lightning_id.study.statistics import MIN_UNITS, Correlation
from lightning_id.study.table import Row, rows_of, write_csv

FEWEST = 3  # points: two are always on a line
OUT = Path("runs/pretrained")
# Pearson's r, of the last hidden dimension and the top-5 error on ImageNet.
OF_PAPER = "0.94 all 14 networks, 1.00 family resnet, 0.88 without alexnet"
_HELP = f"""\
Test whether the dimension of the last hidden layer goes with the error, over trained networks.

{command.MODEL_AND_DATA}
Example: lightning-id study pretrained resnet18 resnet50 runs/profile/vgg16 --data photos
"""


def profile(args: Sequence[str]) -> None:
    """Run `lightning-id profile` with the arguments that follow it."""
    command.main(args, write_all)


def study_pretrained(args: Sequence[str]) -> None:
    """Run `lightning-id study pretrained` with the arguments that follow it."""
    parser = command.arguments("study pretrained", _HELP)
    default = list(LITE)
    names = f"networks; default: {' '.join(LITE)}"
    parser.add_argument("models", nargs="*", metavar="MODEL", default=default, help=names)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"default: {OUT}")
    command.run(parser, args, OUT, write_all, always_compares=True)


def write_all(histories: Mapping[str, History], folder: Path) -> str:
    """Write the comparison of networks as figure and CSV, and return it as text."""
    rows = compare(histories)
    write_csv(folder / "comparison.csv", rows)
    comparison_figure(rows).savefig(folder / "comparison.png")
    return (
        f"{comparison_text(rows)}\n\n"
        f"Last hidden ID and error: {folder / 'comparison.png'}\n"
        f"The same as CSV:          {folder / 'comparison.csv'}"
    )


def compare(histories: Mapping[str, History]) -> list[Row]:
    """Return the row of each trained network, by its name."""
    return [_row(name, history) for name, history in histories.items()]


def row_of(name: str, last_hidden: Record | None, accuracy: float) -> Row:
    """Return the row of a network; its family, of one design, is its name without numbers."""
    record: Mapping[str, Any] = last_hidden or {}
    return {
        "network": name,
        "family": re.sub(r"\d+", "", name),
        "last_hidden": record.get("value"),
        "std_error": record.get("std_error"),
        "n_samples": record.get("n_samples"),
        "accuracy": accuracy,
        "error": 1 - accuracy,
    }


def correlations(rows: Sequence[Row]) -> dict[str, Correlation]:
    """Return Pearson's r of last hidden dimension and error: of all, families, all but one."""
    # Every network is a unit of its own.
    known = [row | {"cell": row["network"]} for row in _known(rows)]
    groups = {f"all {len(known)} networks": known}
    for family, size in Counter(row["family"] for row in known).items():
        if size > 1:
            groups[f"family {family}"] = [row for row in known if row["family"] == family]
    for out in known:
        groups[f"without {out['network']}"] = [row for row in known if row is not out]
    return {name: correlation(each, "error", "last_hidden") for name, each in groups.items()}


def comparison_text(rows: Sequence[Row]) -> str:
    """Return tables of the networks and of the correlations, and the verdict, for a terminal."""
    cells = [["network", "last hidden ID", "accuracy", "error"]]
    for row in rows:
        last = value_with_error(cast(Record, row | {"value": row["last_hidden"]}))
        error = _percent(row["error"], _error_std(row))
        cells.append([row["network"], last, _percent(row["accuracy"]), error])
    found = correlations(rows)
    groups = [["last hidden ID and error", "Pearson r"]]
    groups += [[name, _correlation_text(correlation)] for name, correlation in found.items()]
    parts = [aligned(cells), aligned(groups), _verdict(next(iter(found.values())))]
    known = [row["network"] for row in _known(rows)]
    without = [row["network"] for row in rows if row["network"] not in known]
    if without:
        parts.append(f"Not compared, without TwoNN or without an error: {', '.join(without)}.")
    counts = sorted({row["n_samples"] or 0 for row in rows} - {0})
    if len(counts) > 1:
        parts.append(
            f"Not comparable: measured on {', '.join(map(str, counts))} samples, and the dimension"
            " depends on how many there are."
        )
    return "\n\n".join(parts)


def comparison_figure(rows: Sequence[Row]) -> Figure:
    """Draw the last hidden dimension against the error, one colour per family."""
    figure = new_figure()
    axes = figure.subplots()
    families = list(dict.fromkeys(row["family"] for row in rows))
    for row in _known(rows):
        error, value = row["error"], row["last_hidden"]
        color = FEW_COLORS[families.index(row["family"]) % len(FEW_COLORS)]
        axes.errorbar(
            100 * error,
            value,
            NORMAL_975 * (row["std_error"] or math.nan),
            100 * NORMAL_975 * _error_std(row),
            color=color,
            fmt="o",
            markersize=4,
            capsize=3,
            linewidth=1,
        )
        axes.annotate(
            escape_mathtext(row["network"]),
            (100 * error, value),
            xytext=(5, 4),
            textcoords="offset points",
            color=color,
            fontsize=SMALL,
        )
    name, correlation = next(iter(correlations(rows).items()))
    axes.margins(x=0.15)
    axes.set_xlabel("error on these images in %")
    axes.set_ylabel("dimension of the last hidden layer (TwoNN)")
    style_axes(axes)
    footnote(figure, f"{name}: Pearson r {_correlation_text(correlation)}", "bars: 95 %")
    return figure


def _row(name: str, history: History) -> Row:
    last = last_of_fit(history.validations())
    if last is None:
        return row_of(name, None, math.nan)
    accuracy = dict(accuracies(history)).get(last.stage, math.nan)
    return row_of(name, last_hidden(history.at(last, "twonn")), accuracy)


def _known(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with both numbers."""
    return [row for row in rows_of(rows) if None not in (row["last_hidden"], row["error"])]


def _correlation_text(correlation: Correlation) -> str:
    r = correlation.pearson
    if correlation.n_runs < FEWEST:
        return f"needs {FEWEST} networks, got {correlation.n_runs}"
    if math.isnan(r.value):
        return "none: all errors or all dimensions are equal"
    if correlation.reason is not None:
        return f"{r.value:.2f}, no interval: needs {MIN_UNITS} networks"
    return f"{r}, p = {r.p:.2g}"


def _verdict(found: Correlation) -> str:
    """Return the verdict on a correlation, by the rule of the study, and quote the paper."""
    if found.n_runs < MIN_UNITS:
        answer = f"Inconclusive: needs {MIN_UNITS} networks, got {found.n_runs}."
    elif found.reason is not None:
        answer = "Inconclusive: all errors or all dimensions are equal."
    else:
        answer = {
            1: "Reproduced: the higher the dimension, the higher the error.",
            -1: "Not reproduced: the higher the dimension, the lower the error.",
            0: "Not reproduced: no significant relation (95 % interval and permutation test).",
        }[found.sign]
    return f"{answer}\nAnsuini et al. (2019), top-5 error on ImageNet: r = {OF_PAPER}."


def _error_std(row: Row) -> float:
    """Return the standard error of the error: that of a share of so many images."""
    n = row["n_samples"]
    return math.sqrt(row["accuracy"] * row["error"] / n) if n else math.nan


def _percent(share: float, std: float = math.nan) -> str:
    bar = "" if math.isnan(std) else f" ± {100 * std:.1f}"
    return "-" if math.isnan(share) else f"{100 * share:.1f}{bar} %"
