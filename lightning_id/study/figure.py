"""The figure of a study: dimension against error, once for each setting."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
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
from lightning_id.study.analysis import Analysis, order_of, title_of, value_text, varied
from lightning_id.study.statistics import deviations, numbered
from lightning_id.study.table import SEED_NAME, Row

MARKERS = "os^Dv<>P*X"
MOST_LEVELS = 12  # of a setting, for a legend that can be read
MOST_PANELS = 8


def draw_study(analysis: Analysis) -> Figure:
    """Draw the error against each dimension, within cells, and coloured by each other setting."""
    needed = [*analysis.relations, analysis.error]
    known = [row for row in analysis.rows if all(row[name] is not None for name in needed)]
    if not known:
        return text_figure("No training has both a dimension and an error.")
    levels = {name: {row[name] for row in known} for name in varied(known, analysis.settings)}
    factors: list[str | None] = [
        name
        for name, values in levels.items()
        if name != SEED_NAME and len(values) <= MOST_LEVELS and None not in values
    ]
    factors = factors or [None]
    first = next(iter(analysis.relations))
    panels = [(measure, factors[0], False) for measure in analysis.relations]
    panels += [(first, factors[0], True), *[(first, factor, False) for factor in factors[1:]]]
    panels = panels[:MOST_PANELS]
    lines = math.ceil(len(panels) / 2)
    figure = new_figure(3 * lines)
    for number, (measure, factor, within) in enumerate(panels, start=1):
        axes = figure.add_subplot(lines, 2, number)
        _scatter(axes, analysis, known, measure, factor, within)
    return figure


def _scatter(
    axes: Axes,
    analysis: Analysis,
    rows: Sequence[Row],
    measure: str,
    factor: str | None,
    within: bool,
) -> None:
    """Draw two columns, or the deviations of their numbers from the means of the cells."""
    error, is_share = analysis.error, analysis.is_share(analysis.error)
    x, y = ([row[column] for row in rows] for column in (measure, error))
    unit, less = " in %", ""
    if within:
        units = numbered([row["cell"] for row in rows])
        x, y = (deviations(np.array(each), units).tolist() for each in (x, y))
        unit, less = " in points", ",\nless the mean of the cell"
        axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        axes.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    y = [100 * each if is_share else each for each in y]
    _points(axes, x, y, factor, [None if factor is None else row[factor] for row in rows])
    if not within and min(y) > 0 and max(y) > LOG_RANGE * min(y):
        axes.set_yscale("log", base=2)
        plain_numbers(axes.yaxis)
    axes.set_xlabel(f"{title_of(measure)}{less}", fontsize=SMALL)
    axes.set_ylabel(f"{title_of(error)}{unit * is_share}{less}", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    style_axes(axes)


def _points(
    axes: Axes, x: Sequence[float], y: Sequence[float], factor: str | None, values: Sequence[Any]
) -> None:
    levels = sorted(set(values), key=order_of)
    handles = []
    for number, level in enumerate(levels):
        here = [i for i, value in enumerate(values) if value == level]
        style: dict[str, Any] = {
            "color": color_of(number, len(levels)),
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": "",
        }
        axes.plot([x[i] for i in here], [y[i] for i in here], alpha=0.75, markersize=5, **style)
        handles.append(Line2D([], [], label=value_text(level), **style))
    if factor is not None:
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
