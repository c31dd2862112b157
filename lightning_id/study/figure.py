"""The figure of a study: dimension against error, once for each setting."""

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
from lightning_id.study.analysis import Analysis, order_of, title_of, value_text, varied
from lightning_id.study.table import SEED_NAME, Row

MARKERS = "os^Dv<>P*X"
MOST_LEVELS = 12  # of a setting, for a legend that can be read
MOST_PANELS = 8


def draw_study(analysis: Analysis) -> Figure:
    """Draw the error against each dimension.

    Then as deviations from the mean of the cell, then coloured by each other varied setting.
    """
    needed = [*analysis.relations, analysis.error]
    known = [row for row in analysis.rows if all(row[name] is not None for name in needed)]
    if not known:
        return text_figure("No training has both a dimension and an error.")
    names = [name for name in varied(known, analysis.settings) if name != SEED_NAME]
    factors: list[str | None] = [
        name
        for name in names
        if len(levels := {row[name] for row in known}) <= MOST_LEVELS and None not in levels
    ]
    factors = factors or [None]
    first = next(iter(analysis.relations))
    scale = 100 if analysis.is_share(analysis.error) else 1
    draw = partial(_scatter, rows=known, error=analysis.error, scale=scale)
    panels: list[Callable[[Axes], None]] = [
        *[partial(draw, measure=measure, factor=factors[0]) for measure in analysis.relations],
        partial(_deviations, **draw.keywords, measure=first, factor=factors[0]),
        *[partial(draw, measure=first, factor=factor) for factor in factors[1:]],
    ]
    panels = panels[:MOST_PANELS]
    lines = math.ceil(len(panels) / 2)
    figure = new_figure(3 * lines)
    for number, panel in enumerate(panels, start=1):
        panel(figure.add_subplot(lines, 2, number))
    return figure


def _scatter(
    axes: Axes, rows: Sequence[Row], error: str, scale: int, measure: str, factor: str | None
) -> None:
    unit = " in %" if scale > 1 else ""
    errors = [scale * row[error] for row in rows]
    _points(axes, rows, [row[measure] for row in rows], errors, factor)
    if min(errors) > 0 and max(errors) > LOG_RANGE * min(errors):
        axes.set_yscale("log", base=2)
        plain_numbers(axes.yaxis)
    axes.set_xlabel(title_of(measure), fontsize=SMALL)
    axes.set_ylabel(f"{title_of(error)}{unit}", fontsize=SMALL)


def _deviations(
    axes: Axes, rows: Sequence[Row], error: str, scale: int, measure: str, factor: str | None
) -> None:
    unit = " in points" if scale > 1 else ""
    x, y = _from_cell_mean(rows, measure), _from_cell_mean(rows, error)
    _points(axes, rows, x, [scale * each for each in y], factor)
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel(f"{title_of(measure)},\nless the mean of the cell", fontsize=SMALL)
    axes.set_ylabel(f"{title_of(error)}{unit},\nless the mean of the cell", fontsize=SMALL)


def _from_cell_mean(rows: Sequence[Row], column: str) -> list[float]:
    cells: dict[Any, list[float]] = {}
    for row in rows:
        cells.setdefault(row["cell"], []).append(row[column])
    return [row[column] - math.fsum(cells[row["cell"]]) / len(cells[row["cell"]]) for row in rows]


def _points(
    axes: Axes, rows: Sequence[Row], x: Sequence[float], y: Sequence[float], factor: str | None
) -> None:
    values = [None if factor is None else row[factor] for row in rows]
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
    axes.tick_params(labelsize=SMALL)
    style_axes(axes)
