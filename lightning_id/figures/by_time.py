"""Figures over the time of a training."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from lightning_id.figures._data import (
    COLORS,
    FEW_COLORS,
    FIT,
    LOG_RANGE,
    SMALL,
    Clock,
    course_of,
    has_band,
    is_skewed,
    label_of,
    metric_by_validation,
    missing,
    missing_metric,
    norm_of,
    plain,
    records_of,
    samples_in_words,
    short_names,
    shortened,
    strided,
)
from lightning_id.figures._drawing import (
    draw_interval,
    finish_time_bar,
    footnote,
    new_figure,
    only_words,
    plain_numbers,
    tidy,
    words,
)
from lightning_id.history import History, Record, Validation, has_value, in_order
from lightning_id.layers import LAST_HIDDEN

MOST_ROWS = 32  # names that fit beside the map


def heat_map(history: History, estimator: str = "twonn", metric: str = "val_acc") -> Figure:
    """Draw the dimension as colour, layer by measurement, under the curve of a metric.

    Measurements are columns of equal width, with their time below. Grey cells have no estimate.

    Args:
        history: What was measured.
        estimator: Which dimension to draw.
        metric: The name under which the metric was logged.

    Returns:
        The figure.
    """
    records = records_of(history, estimator)
    valued = [validation for validation, each in records.items() if any(map(has_value, each))]
    if not valued:
        return only_words(missing(history, estimator))
    course = course_of(list(records))
    validations = valued if set(valued).isdisjoint(course) else course
    everything = [r for validation in validations for r in records[validation]]
    layers = list(dict.fromkeys(r["layer"] for r in in_order(everything)))
    figure = new_figure(min(3 + 0.16 * len(layers), 7.5))
    curve, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.5))
    _draw_curve(curve, history, metric, validations)
    _draw_cells(figure, axes, _cells(records, validations, layers), estimator)
    names = short_names(layers)
    rows = strided(len(layers), MOST_ROWS)
    axes.set_yticks(rows, [names[layers[row]] for row in rows], fontsize=SMALL)
    clock = Clock.of(validations)
    columns = strided(len(validations), 10)
    axes.set_xticks(columns, [str(clock.time(validations[column])) for column in columns])
    axes.set_xlabel(clock.name)
    footnote(
        figure,
        [
            samples_in_words(everything),
            "grey: no estimate" if not all(map(has_value, everything)) else "",
            "not every name is written" if len(rows) < len(layers) else "",
        ],
    )
    return figure


def last_hidden_and_metric(history: History, metric: str = "val_acc") -> Figure:
    """Draw the TwoNN dimension of the last hidden layer and a metric over time and together.

    On the left both over time, with the 95 % band of the dimension; on the right the metric against
    the dimension, joined in the order of time.

    Args:
        history: What was measured.
        metric: The name under which the metric was logged.

    Returns:
        The figure.
    """
    found = {
        validation: [r for r in each if r["role"] == LAST_HIDDEN and has_value(r)]
        for validation, each in records_of(history, "twonn").items()
    }
    course = (
        {v: found[v][0] for v in course_of([v for v in found if found[v]])}
        if any(found.values())
        else {}
    )
    if not course:
        if any(has_value(r) for r in history.records if r["estimator"] == "twonn"):
            return only_words("No record of twonn with a value is of a last hidden layer.")
        return only_words(missing(history, "twonn"))
    clock = Clock.of(course)
    figure = new_figure(4.2)
    panels = figure.subplot_mosaic([["id", "both"], ["metric", "both"]], width_ratios=(1.15, 1))
    panels["metric"].sharex(panels["id"])
    _draw_last_hidden(panels["id"], course, clock)
    values = metric_by_validation(history, metric)
    shown = [v for v in values if v in course or v[0] == FIT]
    shared = [validation for validation in course if validation in values]
    if shown:
        panels["metric"].plot(
            [clock.time(v) for v in shown],
            [values[v] for v in shown],
            color=FEW_COLORS[1],
            marker=_marker(shown),
        )
    else:
        words(panels["metric"], missing_metric(history, metric))
    if shared:
        times = [clock.time(v) for v in shared]
        _draw_together(
            figure, panels["both"], [(course[v], values[v]) for v in shared], times, clock.name
        )
        panels["both"].set_ylabel(plain(shortened(metric, 40)))
    else:
        words(panels["both"], "Measured between validations." if shown else "")
    panels["metric"].set_ylabel(plain(shortened(metric, 24)))
    bottom = panels["metric"] if shown else panels["id"]
    bottom.set_xlabel(clock.name)
    if is_skewed(map(clock.time, course)):
        panels["id"].set_xscale("symlog", linthresh=1)
        plain_numbers(panels["id"].xaxis)
    for axes in (panels["id"], panels["metric"], panels["both"]):
        tidy(axes)
    footnote(
        figure,
        [
            samples_in_words(list(course.values())),
            "band: 95 %" if any(map(has_band, course.values())) else "",
        ],
    )
    return figure


def _cells(
    records: dict[Validation, list[Record]], validations: Sequence[Validation], layers: list[str]
) -> np.ma.MaskedArray:
    row = {layer: i for i, layer in enumerate(layers)}
    cells = np.full((len(layers), len(validations)), math.nan)
    for column, validation in enumerate(validations):
        for record in filter(has_value, records[validation]):
            cells[row[record["layer"]], column] = record["value"]
    return np.ma.masked_invalid(cells)


def _draw_cells(figure: Figure, axes: Axes, cells: np.ma.MaskedArray, estimator: str) -> None:
    low, high = float(cells.min()), float(cells.max())
    logarithmic = low > 0 and high > LOG_RANGE * low
    alike = 0.5 if high - low < 1e-6 * high or high == low else 0.0  # a scale needs some length
    image = axes.imshow(
        cells,
        aspect="auto",
        interpolation="nearest",
        cmap=colormaps["viridis"].with_extremes(bad="0.8"),
        norm=LogNorm(low, high) if logarithmic else Normalize(low - alike, high + alike),
    )
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label(label_of(estimator), fontsize=9)
    if logarithmic:
        bar.ax.yaxis.set_major_locator(LogLocator(base=2))
        plain_numbers(bar.ax.yaxis)


def _draw_curve(
    axes: Axes, history: History, metric: str, validations: Sequence[Validation]
) -> None:
    values = metric_by_validation(history, metric)
    clock, columns = Clock.of(validations), {v: float(i) for i, v in enumerate(validations)}
    times = [clock.time(v) for v in validations]
    for v in values:
        if v[0] == FIT and times[0] < clock.time(v) < times[-1]:  # between two measurements
            columns.setdefault(v, float(np.interp(clock.time(v), times, range(len(times)))))
    points = sorted((columns[v], value) for v, value in values.items() if v in columns)
    if not points:
        words(axes, missing_metric(history, metric))
        return
    axes.plot(*zip(*points, strict=True), color=FEW_COLORS[1], marker=_marker(points))
    axes.set_ylabel(plain(shortened(metric, 20)))
    axes.tick_params(labelbottom=False)
    axes.margins(y=0.15)  # whole dots at the ends
    tidy(axes)


def _draw_last_hidden(axes: Axes, course: dict[Validation, Record], clock: Clock) -> None:
    axes.plot(
        [clock.time(v) for v in course],
        [r["value"] for r in course.values()],
        color=FEW_COLORS[0],
        marker=_marker(list(course)),
    )
    banded = {clock.time(v): r for v, r in course.items() if has_band(r)}
    lows, highs = [r["low"] for r in banded.values()], [r["high"] for r in banded.values()]
    draw_interval(axes, list(banded), lows, highs, FEW_COLORS[0])
    axes.set_ylabel("last hidden ID")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if len(course) == 1:
        axes.set_xlim(min(map(clock.time, course)) - 1, max(map(clock.time, course)) + 1)


def _draw_together(
    figure: Figure,
    axes: Axes,
    pairs: Sequence[tuple[Record, float]],
    times: Sequence[int],
    name: str,
) -> None:
    x, y = [record["value"] for record, _ in pairs], [value for _, value in pairs]
    axes.plot(x, y, color="0.75", linewidth=0.8, zorder=1)
    points = axes.scatter(x, y, c=times, cmap=COLORS, norm=norm_of(times), s=18, zorder=2)
    axes.set_xlabel("last hidden ID (TwoNN)")
    if len(set(times)) > 1:
        bar = figure.colorbar(points, ax=axes, location="top", pad=0.01, shrink=0.9)
        bar.set_label(name, fontsize=SMALL)
        finish_time_bar(bar)


def _marker(points: Sequence[object]) -> str:
    """Return a dot that fits: none where points touch each other."""
    return "o" if len(points) <= 20 else "." if len(points) <= 60 else ""
