"""Figure of the dimension at many scales."""

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from lightning_id.figures._data import LOG_RANGE, short_names, shortened, without_value
from lightning_id.figures._drawing import (
    color_of,
    draw_text,
    footnote,
    legend_above,
    new_figure,
    plain_numbers,
    scale_values,
    style_axes,
    text_figure,
)
from lightning_id.functional.scale import ScaleProfile


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
    _finish(by_distance, "distance of the neighbours", "Gride, all rows")
    _finish(by_rows, "rows in a block", "TwoNN, blocks of rows")
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


def _finish(axes: Axes, x: str, title: str) -> None:
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
