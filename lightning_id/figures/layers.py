"""Figure of all layers over training."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_id.figures._data import (
    Clock,
    axis_label,
    escape_mathtext,
    explain_missing,
    explain_missing_metric,
    is_skewed,
    shortened,
)
from lightning_id.figures._drawing import (
    COLORS,
    FEW_COLORS,
    draw_text,
    footnote,
    name_bar,
    new_figure,
    plain_numbers,
    scale_values,
    style_axes,
    text_figure,
)
from lightning_id.history import FIT, History, Record, has_value, in_order
from lightning_id.history.queries import by_validation, course, describe_samples, metric_values


def layers_over_time(history: History, estimator: str = "twonn", metric: str = "val_acc") -> Figure:
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
        return text_figure(explain_missing(history, estimator))
    everything: list[Record] = [r for validation in shown for r in found[validation]]
    layers = list(dict.fromkeys(r["layer"] for r in in_order(everything)))
    colors = [COLORS(i / max(len(layers) - 1, 1)) for i in range(len(layers))]
    clock = Clock.of(shown)
    times = [clock.time(validation) for validation in shown]
    figure = new_figure(5)
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
    values = metric_values(history, metric)
    logged = sorted((clock.time(v), values[v]) for v in values if v in shown or v.stage == FIT)
    if logged:
        below.plot(*zip(*logged, strict=True), color=FEW_COLORS[1])
        below.set_ylabel(escape_mathtext(shortened(metric, 20)))
        below.margins(y=0.15)
    else:
        draw_text(below, explain_missing_metric(history, metric))
    bottom = below if logged else axes
    bottom.set_xlabel(clock.name)
    bottom.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if is_skewed(times):
        axes.set_xscale("symlog", linthresh=1)
        plain_numbers(axes.xaxis)
    elif len(set(times)) == 1 and not logged:
        axes.set_xlim(times[0] - 1, times[0] + 1)
    for each in (axes, below):
        style_axes(each)
    cut = name_bar(figure, axes, layers, colors)
    footnote(figure, describe_samples(everything), cut)
    return figure
