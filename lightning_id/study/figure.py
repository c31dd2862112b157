"""The figure of a study: last hidden dimension against test error, once for each factor."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_id.figures._data import LOG_RANGE
from lightning_id.figures._drawing import (
    SMALL,
    color_of,
    new_figure,
    plain_numbers,
    style_axes,
    text_figure,
)
from lightning_id.study.analysis import OUTCOME, varied
from lightning_id.study.runs import Row

TITLES = {
    "id_train": "last hidden dimension (training images)",
    "id_test": "last hidden dimension (test images)",
    "label_noise": "label noise",
    "n_train": "training images",
    "n_samples": "images measured",
    "weight_decay": "weight decay",
    "lr": "learning rate",
    "peak_train": "peak (training images)",
    "peak_test": "peak (test images)",
    "peak_over_last_train": "peak / last hidden (training images)",
    "peak_over_last_test": "peak / last hidden (test images)",
}
MARKERS = "os^Dv<>P*X"


def draw_study(rows: Sequence[Row]) -> Figure:
    """Draw the test error against the dimension on training and on test images.

    Then as deviations from the mean of the cell, then coloured by each other varied setting.
    """
    known = [row for row in rows if None not in (row["id_train"], row["id_test"], row[OUTCOME])]
    if not known:
        return text_figure("No training has both a dimension and a test error.")
    factors = varied(known) or ["label_noise"]
    panels: list[Callable[[Axes], None]] = [
        partial(_scatter, rows=known, measure="id_train", factor=factors[0]),
        partial(_scatter, rows=known, measure="id_test", factor=factors[0]),
        partial(_deviations, rows=known, measure="id_train", factor=factors[0]),
        *[partial(_scatter, rows=known, measure="id_train", factor=f) for f in factors[1:]],
    ]
    lines = math.ceil(len(panels) / 2)
    figure = new_figure(3 * lines)
    for number, panel in enumerate(panels, start=1):
        panel(figure.add_subplot(lines, 2, number))
    return figure


def title_of(name: str) -> str:
    """Return the title of a column."""
    return TITLES.get(name, name.replace("_", " "))


def _scatter(axes: Axes, rows: Sequence[Row], measure: str, factor: str) -> None:
    errors = [100 * row[OUTCOME] for row in rows]
    _points(axes, rows, [row[measure] for row in rows], errors, factor)
    if min(errors) > 0 and max(errors) > LOG_RANGE * min(errors):
        axes.set_yscale("log", base=2)
        plain_numbers(axes.yaxis)
    axes.set_xlabel(title_of(measure), fontsize=SMALL)
    axes.set_ylabel(f"{title_of(OUTCOME)} in %", fontsize=SMALL)


def _deviations(axes: Axes, rows: Sequence[Row], measure: str, factor: str) -> None:
    x, y = _from_cell_mean(rows, measure), _from_cell_mean(rows, OUTCOME)
    _points(axes, rows, x, [100 * each for each in y], factor)
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel(f"{title_of(measure)},\nless the mean of the cell", fontsize=SMALL)
    axes.set_ylabel(f"{title_of(OUTCOME)} in points,\nless the mean of the cell", fontsize=SMALL)


def _from_cell_mean(rows: Sequence[Row], column: str) -> list[float]:
    cells: dict[str, list[float]] = {}
    for row in rows:
        cells.setdefault(row["cell"], []).append(row[column])
    return [row[column] - math.fsum(cells[row["cell"]]) / len(cells[row["cell"]]) for row in rows]


def _points(
    axes: Axes, rows: Sequence[Row], x: Sequence[float], y: Sequence[float], factor: str
) -> None:
    levels = sorted({row[factor] for row in rows})
    handles = []
    for number, level in enumerate(levels):
        here = [i for i, row in enumerate(rows) if row[factor] == level]
        style: dict[str, Any] = {
            "color": color_of(number, len(levels)),
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": "",
        }
        axes.plot([x[i] for i in here], [y[i] for i in here], alpha=0.75, markersize=5, **style)
        handles.append(Line2D([], [], label=f"{level:g}", **style))
    axes.legend(
        handles=handles,
        title=title_of(factor),
        fontsize=SMALL,
        title_fontsize=SMALL,
        loc="lower center",  # above the axes, where no point can be
        bbox_to_anchor=(0.5, 1),
        ncols=5,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1,
    )
    axes.tick_params(labelsize=SMALL)
    style_axes(axes)
