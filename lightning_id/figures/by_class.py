"""Figure of single classes."""

import statistics

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_id.figures._data import (
    axis_label,
    escape_mathtext,
    explain_missing,
    short_names,
    shortened,
    tick_positions,
)
from lightning_id.figures._drawing import (
    COLORS,
    FEW_COLORS,
    SMALL,
    footnote,
    new_figure,
    scale_values,
    style_axes,
    text_figure,
    turn_if_crowded,
)
from lightning_id.history import Estimated, History, has_value, in_order, validation_of
from lightning_id.history.queries import describe, describe_samples, last_of_fit

MOST_LAYERS = 24  # names that fit below the axis
MOST_CLASSES = 12  # names that fit in the legend


def per_class(history: History, estimator: str = "twonn") -> Figure:
    """Draw the dimension of the samples of each class, layer by layer, at the last measurement.

    A point is a class; the bar is their mean and one standard deviation, divisor K - 1, to either
    side. A class has fewer samples than all together, and the dimension depends on their number:
    compare the points with each other. The callback measures classes with `per_class`.
    """
    of_classes = [
        r for r in history.records if r["estimator"] == estimator and r["label"] is not None
    ]
    known = [r for r in of_classes if has_value(r)]
    last = last_of_fit(map(validation_of, known))
    if last is None:
        reason = explain_missing(History(of_classes), estimator) if of_classes else ""
        return text_figure(reason or "No class was measured by itself (per_class=True does).")
    records = in_order(r for r in known if validation_of(r) == last)
    layers = list(dict.fromkeys(r["layer"] for r in records))
    figure = new_figure()
    axes = figure.add_subplot()
    _draw_classes(figure, axes, records, layers)
    _draw_means(axes, records, layers)
    scale_values(axes, [r["value"] for r in records])
    names = short_names(layers)
    shown = tick_positions(len(layers), MOST_LAYERS)
    axes.set_xticks(shown, [names[layers[i]] for i in shown], fontsize=SMALL)
    turn_if_crowded(axes.get_xticklabels(), [i / len(layers) for i in shown], "right")
    axes.set_xlabel("layer, in the order of execution")
    axes.set_ylabel(axis_label(estimator))
    style_axes(axes)
    footnote(
        figure,
        describe(last),
        f"{describe_samples(records)} for each class",
        "bar: mean and standard deviation of the classes",
    )
    return figure


def _draw_classes(figure: Figure, axes: Axes, records: list[Estimated], layers: list[str]) -> None:
    place = {layer: i for i, layer in enumerate(layers)}
    labels = sorted({r["label"] or "" for r in records}, key=lambda label: (len(label), label))
    for i, label in enumerate(labels):
        share = i / max(len(labels) - 1, 1)
        of_class = [r for r in records if r["label"] == label]
        axes.plot(
            [place[r["layer"]] + 0.5 * (share - 0.5) for r in of_class],  # side by side
            [r["value"] for r in of_class],
            linestyle="",
            marker="o",
            markersize=4 if len(layers) <= MOST_LAYERS else 2,
            color=COLORS(share),
            label=escape_mathtext(shortened(label, 14)),
        )
    if len(labels) <= MOST_CLASSES:
        options = {"frameon": False, "fontsize": SMALL, "title_fontsize": SMALL}
        figure.legend(loc="outside right upper", title="class", **options)


def _draw_means(axes: Axes, records: list[Estimated], layers: list[str]) -> None:
    for i, layer in enumerate(layers):
        values = [r["value"] for r in records if r["layer"] == layer]
        axes.errorbar(
            i,
            statistics.fmean(values),
            yerr=statistics.stdev(values) if len(values) > 1 else 0,
            color=FEW_COLORS[-1],
            marker="_",
            markersize=12 if len(layers) <= MOST_LAYERS else 4,
            capsize=3 if len(layers) <= MOST_LAYERS else 0,
            linewidth=1,
        )
