"""Figures of one measurement: single classes, spectra, scales."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy import geomspace
from torch import Tensor

from lightning_id.figures._data import (
    LOG_RANGE,
    axis_label,
    escape_mathtext,
    explain_missing,
    short_names,
    shortened,
    tick_positions,
    without_value,
)
from lightning_id.figures._drawing import (
    COLORS,
    FEW_COLORS,
    SMALL,
    UNTRAINED,
    Color,
    color_of,
    draw_text,
    footnote,
    layer_colors,
    legend_above,
    name_bar,
    new_figure,
    plain_numbers,
    scale_values,
    style_axes,
    text_figure,
    turn_if_crowded,
)
from lightning_id.functional.pca import rounding_noise
from lightning_id.functional.scale import ScaleProfile
from lightning_id.history import (
    BEFORE_TRAINING,
    Estimated,
    History,
    has_value,
    in_order,
    validation_of,
)
from lightning_id.history.queries import describe, describe_samples, last_of_fit

MOST_LAYERS = 24  # names that fit below the axis
MOST_CLASSES = 12  # names that fit in the legend
MOST_POINTS = 200  # of a line; even on the logarithmic axis


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


def spectra(history: History) -> Figure:
    """Draw the eigenvalues of the covariance of every layer, and their change by training.

    On the left the share of the variance of each eigenvalue at the last measurement of the fit,
    log-log, from the largest on; on the right the same over its share at the first. Shares, because
    training changes the size of activations too. Eigenvalues at the noise floor are left out.
    """
    known = {
        validation: {layer: shares for layer, x in layers.items() if len(shares := _shares(x))}
        for validation, layers in history.spectra.items()
    }
    known = {validation: layers for validation, layers in known.items() if layers}
    if not known:
        return text_figure("No spectrum with any variance was kept.")
    first, last = next(iter(known)), last_of_fit(known) or next(iter(known))
    figure = new_figure(4.6)
    shares, ratios = figure.subplots(1, 2)
    layers = list(known[last])
    colors = layer_colors(len(layers))
    for color, layer in zip(colors, layers, strict=True):
        _draw_eigenvalues(shares, known[last][layer], color)
    _finish_spectra(shares, "share of the variance")
    shares.set_title(describe(last), fontsize=9)
    if first == last:
        draw_text(ratios, "Spectra of one measurement only: nothing to compare with.")
    else:
        before = "untrained" if first.stage == BEFORE_TRAINING else describe(first)
        for color, layer in zip(colors, layers, strict=True):
            if layer in known[first]:
                both = min(len(known[first][layer]), len(known[last][layer]))
                change = known[last][layer][:both] / known[first][layer][:both]
                _draw_eigenvalues(ratios, change, color)
        ratios.axhline(1, color=UNTRAINED, linestyle=":", linewidth=1)
        _finish_spectra(ratios, "")
        ratios.set_title(f"the same, over {before}", fontsize=9)
    cut = name_bar(figure, ratios, layers, colors)
    lost = [layer for layer in history.spectra[last] if layer not in known[last]]
    footnote(
        figure,
        "eigenvalues at the noise floor left out",
        f"{len(lost)} layers without variance" if lost else "",
        cut,
    )
    return figure


def _shares(eigenvalues: Tensor) -> Tensor:
    values = eigenvalues.double()
    values = values[values > 0]
    values = values[values > rounding_noise(values, len(eigenvalues))] if len(values) else values
    return values / values.sum()


def _draw_eigenvalues(axes: Axes, values: Tensor, color: Color) -> None:
    places = sorted({round(i) for i in geomspace(1, len(values), MOST_POINTS)})
    axes.plot(
        places,
        values[[i - 1 for i in places]].tolist(),
        color=color,
        linewidth=1,
        marker="o" if len(values) == 1 else None,
    )


def _finish_spectra(axes: Axes, y: str) -> None:
    axes.set_xscale("log")
    low, high = axes.dataLim.intervaly
    axes.set_yscale("log", base=10 if high > 50 * low else 2)
    plain_numbers(axes.xaxis)
    plain_numbers(axes.yaxis)
    axes.set_xlabel("eigenvalue, largest first")
    axes.set_ylabel(y)
    style_axes(axes)


def scale_profiles(profiles: Mapping[str, ScaleProfile]) -> Figure:
    """Draw the dimension against scale: Gride over distance, and TwoNN over the number of rows.

    On the left are all rows at growing distances, with 95 % bands; the flat part, if there is one,
    is drawn thick. On the right are the means over blocks of fewer and fewer rows, with one
    standard deviation between the blocks. A dimension that depends on the scale is no property of
    the manifold alone: with noise it decreases from the smallest scale on.

    Args:
        profiles: Results of `lightning_id.functional.scale_profile`, by name of the layer.
    """
    if not profiles:
        return text_figure("No scale profile was given.")
    known = {name: each for name, each in profiles.items() if _has_values(each)}
    if not known:
        reasons = dict.fromkeys(e.reason for each in profiles.values() for e in each.gride)
        why = "; ".join(reason for reason in reasons if reason)
        return text_figure(f"No scale has an estimate. Reasons: {shortened(why, 300) or 'none'}.")
    figure = new_figure(4.2)
    by_distance, by_rows = figure.subplots(1, 2, sharey=True)
    names = short_names(list(known), most=28)
    for i, (name, each) in enumerate(known.items()):
        color = color_of(i, len(known))
        _draw_distances(by_distance, each, color, names[name])
        _draw_decimation(by_rows, each, color)
    _finish_scales(by_distance, "distance of the neighbours", "Gride, all rows")
    _finish_scales(by_rows, "rows in a block", "TwoNN, blocks of rows")
    by_distance.set_ylabel("intrinsic dimension")
    values = [e.value for each in known.values() for e in each.gride]
    values += [part.mean for each in known.values() for part in each.decimation]
    scale_values(by_distance, values)
    if len(known) <= 16:
        legend_above(figure)
    footnote(
        figure,
        "thick: the flat part" if any(e.flat for e in known.values()) else "no flat part",
        without_value(profiles, known),
        "" if len(known) <= 16 else "dark to pale in the order given",
    )
    return figure


def _has_values(profile: ScaleProfile) -> bool:
    return any(math.isfinite(e.value) for e in profile.gride) or any(
        part.values for part in profile.decimation
    )


def _draw_distances(axes: Axes, profile: ScaleProfile, color: Any, name: str) -> None:
    known = [
        (scale, e.value, e.low, e.high)
        for scale, e in zip(profile.scales, profile.gride, strict=True)
        if math.isfinite(e.value)
    ]
    scales, values, lows, highs = zip(*known, strict=True) if known else ((), (), (), ())
    axes.plot(scales, values, color=color, marker="o", markersize=3.5, linewidth=1, label=name)
    axes.fill_between(scales, lows, highs, color=color, alpha=0.2, linewidth=0)
    if profile.flat is not None:
        flat = slice(profile.flat[0], profile.flat[1] + 1)
        flat_values = [e.value for e in profile.gride[flat]]
        axes.plot(profile.scales[flat], flat_values, color=color, linewidth=4, alpha=0.6)


def _draw_decimation(axes: Axes, profile: ScaleProfile, color: Any) -> None:
    known = [part for part in profile.decimation if part.values]
    axes.errorbar(
        [part.n_rows for part in known],
        [part.mean for part in known],
        yerr=[0 if math.isnan(part.spread) else part.spread for part in known],
        color=color,
        marker="o",
        markersize=3.5,
        linewidth=1,
        capsize=2,
    )


def _finish_scales(axes: Axes, x: str, title: str) -> None:
    if axes.has_data() and axes.dataLim.x1 > 0:
        axes.set_xscale("log")
        low, high = axes.dataLim.intervalx
        wide = high > LOG_RANGE * low
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(nbins=4))
        plain_numbers(axes.xaxis)
    else:
        draw_text(axes, "No estimate.")
    axes.set_xlabel(x)
    axes.set_title(title, fontsize=9)
    style_axes(axes)
