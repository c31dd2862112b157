"""Figures over the time of a training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from lightning_id.figures._data import (
    LOG_RANGE,
    Clock,
    axis_label,
    band,
    explain_missing,
    explain_missing_metric,
    is_skewed,
    metric_course,
    metric_label,
    short_names,
    tick_positions,
    without_value,
)
from lightning_id.figures._drawing import (
    COLORS,
    FEW_COLORS,
    SMALL,
    WIDTH,
    color_of,
    draw_band,
    draw_hollow,
    draw_text,
    footnote,
    layer_colors,
    legend_above,
    name_bar,
    new_figure,
    plain_numbers,
    scale_time,
    scale_values,
    style_axes,
    text_figure,
    time_bar,
    time_norm,
)
from lightning_id.history import FIT, Estimated, History, Record, Validation, has_value, in_order
from lightning_id.history.queries import (
    by_validation,
    course,
    describe_samples,
    last_hidden,
    metric_values,
)

MOST_ROWS = 32  # names that fit next to the map


def heat_map(
    history: History,
    estimator: str = "twonn",
    metric: str = "val_acc",
    *,
    width: int | float = WIDTH,
) -> Figure:
    """Draw the dimension as colour, layer by measurement, under the curve of a metric.

    Measurements are columns of equal width, with their time below. Grey cells have no estimate.
    """
    records = by_validation(history, estimator)
    valued = [validation for validation, each in records.items() if any(map(has_value, each))]
    if not valued:
        return text_figure(explain_missing(history, estimator), width)
    fitted = course(records)
    validations = valued if set(valued).isdisjoint(fitted) else fitted
    everything = [r for validation in validations for r in records[validation]]
    layers = list(dict.fromkeys(r["layer"] for r in in_order(everything)))
    figure = new_figure(min(3 + 0.16 * len(layers), 7.5), width)
    curve, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.5))
    _draw_curve(curve, history, metric, validations)
    values = {(r["layer"], v): r["value"] for v in validations for r in records[v] if has_value(r)}
    rows = [[values.get((layer, v), math.nan) for v in validations] for layer in layers]
    _draw_cells(figure, axes, np.ma.masked_invalid(rows), estimator)
    names = short_names(layers)
    named = tick_positions(len(layers), MOST_ROWS)
    axes.set_yticks(named, [names[layers[i]] for i in named], fontsize=SMALL)
    clock = Clock.of(validations)
    columns = tick_positions(len(validations), 10)
    axes.set_xticks(columns, [str(clock.time(validations[column])) for column in columns])
    axes.set_xlabel(clock.name)
    footnote(
        figure,
        describe_samples(everything),
        "grey: no estimate" if not all(map(has_value, everything)) else "",
        "not every name is written" if len(named) < len(layers) else "",
    )
    return figure


def layers_over_time(
    history: History,
    estimator: str = "twonn",
    metric: str = "val_acc",
    *,
    width: int | float = WIDTH,
) -> Figure:
    """Draw the dimension of every layer over training, above a metric on the same axis.

    A line for each layer, coloured in the order of execution from dark to pale.
    """
    found = {
        validation: known
        for validation, records in by_validation(history, estimator).items()
        if (known := list(filter(has_value, records)))
    }
    shown = course(found)
    if not shown:
        return text_figure(explain_missing(history, estimator), width)
    everything: list[Record] = [r for validation in shown for r in found[validation]]
    layers = list(dict.fromkeys(r["layer"] for r in in_order(everything)))
    colors = layer_colors(len(layers))
    clock = Clock.of(shown)
    times = [clock.time(validation) for validation in shown]
    figure = new_figure(min(5, width), width)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for color, layer in zip(colors, layers, strict=True):
        points = [
            (time, r["value"])
            for time, validation in zip(times, shown, strict=True)
            for r in found[validation]
            if r["layer"] == layer
        ]
        marker = "o" if len(points) <= 20 else ""
        axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=3.5)
    scale_values(axes, [r["value"] for validation in shown for r in found[validation]])
    axes.set_ylabel(axis_label(estimator))
    logged = metric_course(history, metric, clock, shown)
    if logged:
        below.plot(*zip(*logged, strict=True), color=FEW_COLORS[1])
        below.set_ylabel(metric_label(metric))
        below.margins(y=0.15)
    else:
        draw_text(below, explain_missing_metric(history, metric))
    bottom = below if logged else axes
    bottom.set_xlabel(clock.name)
    bottom.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if is_skewed(times) or not logged:
        scale_time(axes, times)
    for each in (axes, below):
        style_axes(each)
    cut = name_bar(figure, axes, layers, colors)
    footnote(figure, describe_samples(everything), cut)
    return figure


def last_hidden_and_metric(history: History, metric: str = "val_acc") -> Figure:
    """Draw the TwoNN dimension of the last hidden layer and a metric, over time and together.

    On the left both over time, with the 95 % band of the dimension; on the right the metric against
    the dimension, joined in the order of time.
    """
    shown = _course_of_last_hidden(history)
    if not shown:
        return text_figure(_explain_missing_last_hidden(history))
    clock = Clock.of(shown)
    figure = new_figure(4.2)
    panels = figure.subplot_mosaic([["id", "both"], ["metric", "both"]], width_ratios=(1.15, 1))
    axes, below, both = panels["id"], panels["metric"], panels["both"]
    below.sharex(axes)
    hollow = _draw_last_hidden(axes, shown, clock, FEW_COLORS[0])
    values = metric_values(history, metric)
    logged = metric_course(history, metric, clock, shown)
    shared = [v for v in shown if v in values]
    if logged:
        curve = zip(*logged, strict=True)
        below.plot(*curve, color=FEW_COLORS[1], marker=_marker(logged))
    else:
        draw_text(below, explain_missing_metric(history, metric))
    if shared:
        x, y = [shown[v]["value"] for v in shared], [values[v] for v in shared]
        times = list(map(clock.time, shared))
        both.plot(x, y, color="0.75", linewidth=0.8, zorder=1)
        norm = time_norm(times)
        points = both.scatter(x, y, c=times, cmap=COLORS, norm=norm, s=18, zorder=2)
        both.set_xlabel("last hidden ID (TwoNN)")
        both.set_ylabel(metric_label(metric, 40))
        if len(set(times)) > 1:
            bar = time_bar(figure, points, ax=both, location="top", shrink=0.9)
            bar.set_label(clock.name, fontsize=SMALL)
    else:
        draw_text(both, "Measured between validations." if logged else "")
    below.set_ylabel(metric_label(metric, 24))
    bottom = below if logged else axes
    bottom.set_xlabel(clock.name)
    scale_time(axes, list(map(clock.time, shown)))
    for each in (axes, below, both):
        style_axes(each)
    footnote(
        figure,
        describe_samples(list(shown.values())),
        "band: 95 %" if any(map(band, shown.values())) else "",
        hollow,
    )
    return figure


def last_hidden_over_time(history: History, *, width: int | float = WIDTH) -> Figure:
    """Draw the TwoNN dimension of the last hidden layer over time, a line for each sample set."""
    sets = history.sample_sets() or [""]
    return compare_last_hidden({name: history.of_set(name) for name in sets}, width=width)


def compare_last_hidden(histories: Mapping[str, History], *, width: int | float = WIDTH) -> Figure:
    """Draw the TwoNN dimension of the last hidden layer over time, with 95 % bands.

    The histories are of runs or sample sets, by name; one without a value is named below.
    """
    found = {name: _course_of_last_hidden(history) for name, history in histories.items()}
    drawn = {name: each for name, each in found.items() if each}
    if not drawn:
        return text_figure(
            _explain_missing_last_hidden(next(iter(histories.values()), History()))
            if len(histories) < 2
            else f"None of {', '.join(histories)} has a twonn estimate of a last hidden layer.",
            width,
        )
    clock = Clock(any(Clock.of(each).by_step for each in drawn.values()))
    figure = new_figure(3.6, width)
    axes = figure.add_subplot()
    names = short_names(list(drawn), most=28)
    hollow = ""
    for i, (name, each) in enumerate(drawn.items()):
        color = color_of(i, len(drawn))
        hollow = _draw_last_hidden(axes, each, clock, color, names[name]) or hollow
    axes.set_xlabel(clock.name)
    scale_time(axes, [clock.time(v) for each in drawn.values() for v in each])
    style_axes(axes)
    if len(drawn) > 1:
        legend_above(figure)
    records = [record for each in drawn.values() for record in each.values()]
    footnote(
        figure,
        describe_samples(records),
        "band: 95 %" if any(map(band, records)) else "",
        hollow,
        without_value(histories, drawn),
    )
    return figure


def _course_of_last_hidden(history: History) -> dict[Validation, Estimated]:
    """Return the records of the last hidden layer before and during the fit, by measurement."""
    records = by_validation(history, "twonn")
    hidden = {v: r for v, each in records.items() if (r := last_hidden(filter(has_value, each)))}
    return {v: hidden[v] for v in course(hidden)}


def _explain_missing_last_hidden(history: History) -> str:
    if any(map(has_value, (r for r in history.records if r["estimator"] == "twonn"))):
        return "No record of twonn with a value is of a last hidden layer."
    return explain_missing(history, "twonn")


def _draw_cells(figure: Figure, axes: Axes, cells: np.ma.MaskedArray, estimator: str) -> None:
    low, high = float(cells.min()), float(cells.max())
    logarithmic = low > 0 and high > LOG_RANGE * low
    margin = 0.5 if high - low < 1e-6 * high or high == low else 0.0  # a scale needs some length
    image = axes.imshow(
        cells,
        aspect="auto",
        interpolation="nearest",
        cmap=colormaps["viridis"].with_extremes(bad="0.8"),
        norm=LogNorm(low, high) if logarithmic else Normalize(low - margin, high + margin),
    )
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label(axis_label(estimator), fontsize=9)
    if logarithmic:
        bar.ax.yaxis.set_major_locator(LogLocator(base=2))
        plain_numbers(bar.ax.yaxis)


def _draw_curve(
    axes: Axes, history: History, metric: str, validations: Sequence[Validation]
) -> None:
    values = metric_values(history, metric)
    clock, columns = Clock.of(validations), {v: float(i) for i, v in enumerate(validations)}
    times = [clock.time(v) for v in validations]
    for v in values:
        if v.stage == FIT and times[0] < clock.time(v) < times[-1]:  # between two measurements
            columns.setdefault(v, float(np.interp(clock.time(v), times, range(len(times)))))
    points = sorted((columns[v], value) for v, value in values.items() if v in columns)
    if not points:
        draw_text(axes, explain_missing_metric(history, metric))
        return
    axes.plot(*zip(*points, strict=True), color=FEW_COLORS[1], marker=_marker(points))
    axes.set_ylabel(metric_label(metric))
    axes.tick_params(labelbottom=False)
    axes.margins(y=0.15)  # whole dots at the ends
    style_axes(axes)


def _draw_last_hidden(
    axes: Axes, course: Mapping[Validation, Estimated], clock: Clock, color: Any, name: str = ""
) -> str:
    """Draw the dimension over time, and return the text on hollow points if there are any."""
    by_time = {clock.time(v): record for v, record in course.items()}
    values = [r["value"] for r in by_time.values()]
    axes.plot(list(by_time), values, color=color, marker=_marker(values), label=name)
    draw_band(axes, by_time, by_time.values(), color)
    axes.set_ylabel("last hidden ID")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    return draw_hollow(axes, zip(by_time, values, strict=True), list(by_time.values()), color)


def _marker(points: Sequence[object]) -> str:
    """Return a marker for so many points: none where they would touch."""
    return "o" if len(points) <= 20 else "." if len(points) <= 60 else ""
