"""Figure of all layers over training."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_id.figures._data import (
    Clock,
    axis_label,
    explain_missing,
    explain_missing_metric,
    is_skewed,
    metric_course,
    metric_label,
)
from lightning_id.figures._drawing import (
    FEW_COLORS,
    WIDTH,
    draw_text,
    footnote,
    layer_colors,
    name_bar,
    new_figure,
    scale_time,
    scale_values,
    style_axes,
    text_figure,
)
from lightning_id.history import History, Record, has_value, in_order
from lightning_id.history.queries import by_validation, course, describe_samples


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
