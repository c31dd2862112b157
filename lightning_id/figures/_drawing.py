"""What the figures draw with: paper, words, axes, bands."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from lightning_id.figures._data import LOG_RANGE, SMALL, has_band, plain
from lightning_id.history import Record

LETTERS_OF_AXIS = 76  # small ones along a horizontal axis beside a colour bar


def new_figure(height: int | float = 4.6) -> Figure:
    """Return an empty figure, 7 inches wide.

    Args:
        height: In inches.

    Returns:
        The figure, unknown to pyplot.
    """
    return Figure(figsize=(7, height), dpi=150, layout="constrained")


def only_words(text: str) -> Figure:
    """Return a figure that says what is missing.

    Args:
        text: What it says.

    Returns:
        The figure, with one empty pair of axes.
    """
    figure = new_figure(2.4)
    words(figure.add_subplot(), text)
    return figure


def words(axes: Axes, text: str) -> None:
    """Write words in place of a drawing.

    Args:
        axes: Where.
        text: What; broken into lines.
    """
    axes.set_axis_off()
    # Width in letters: those of 9 points are about 0.07 inches wide.
    box = axes.get_subplotspec()
    columns = 1 if box is None else box.get_gridspec().ncols
    lines = textwrap.fill(plain(text), 84 // columns)
    axes.text(0.5, 0.5, lines, ha="center", va="center", fontsize=9, transform=axes.transAxes)


def footnote(figure: Figure, parts: Iterable[str]) -> None:
    """Write small print under a figure.

    Args:
        figure: The figure.
        parts: What is said; empty ones are left out.
    """
    text = textwrap.fill(plain(" · ".join(part for part in parts if part)), 118)
    figure.supxlabel(text, fontsize=SMALL, color="0.35", x=0.99, ha="right")


def tidy(axes: Axes) -> None:
    """Give axes a pale grid and no frame at the top and on the right."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def scale_values(axes: Axes, values: Iterable[int | float]) -> None:
    """Make the vertical axis logarithmic to base 2 where the range needs it.

    Args:
        axes: The axes, with all of their lines.
        values: What is drawn on them.
    """
    known = [v for v in values if math.isfinite(v)]
    positive = [v for v in known if v > 0]
    if not positive or max(positive) <= LOG_RANGE * min(positive):
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * max(positive, default=0)))
        return
    if len(positive) == len(known):
        axes.set_yscale("log", base=2)
    else:  # a constant cloud has 0 components
        axes.set_yscale("symlog", base=2, linthresh=min(positive), subs=[])
    plain_numbers(axes.yaxis)


def plain_numbers(axis: Axis) -> None:
    """Write the numbers of a logarithmic axis out, and make no small ticks."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def finish_time_bar(bar: Colorbar) -> None:
    """Write the times along a colour bar in whole numbers."""
    if isinstance(bar.norm, LogNorm):
        bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
        bar.minorticks_off()
    else:
        bar.locator = MaxNLocator(nbins=6, integer=True)
    bar.update_ticks()
    bar.ax.tick_params(labelsize=SMALL)


def draw_band(axes: Axes, records: Sequence[Record], color: Any, alpha: float = 0.3) -> None:
    """Draw the 95 % intervals of records as a band against depth; those without one are left out.

    Args:
        axes: Where.
        records: With values, in the order of execution.
        color: Of the band.
        alpha: How much it covers.
    """
    known = [r for r in records if has_band(r)]
    lows, highs = [r["low"] for r in known], [r["high"] for r in known]
    draw_interval(axes, [r["depth"] for r in known], lows, highs, color, alpha)


def draw_interval(
    axes: Axes,
    x: Sequence[int | float],
    lows: Sequence[float],
    highs: Sequence[float],
    color: Any,
    alpha: float = 0.25,
) -> None:
    """Draw intervals as a band; a single one as a stroke, because a band over a point is nothing.

    Args:
        axes: Where.
        x: Where each lies.
        lows: Their lower ends.
        highs: Their upper ends.
        color: Of the band.
        alpha: How much it covers.
    """
    if len(x) == 1:
        axes.vlines(x, lows, highs, color=color, alpha=alpha, linewidth=6, zorder=1)
    axes.fill_between(x, lows, highs, color=color, alpha=alpha, linewidth=0, zorder=1)


def turn_if_crowded(
    labels: Sequence[Text], places: Sequence[float], side: Literal["left", "right"]
) -> None:
    """Turn the names along an axis where they would touch each other.

    Args:
        labels: The names.
        places: Where they are, as shares of the axis.
        side: Which end of a turned name is at its place.
    """
    letters = [len(label.get_text()) + 2 for label in labels]
    needed = [(a + b) / 2 / LETTERS_OF_AXIS for a, b in pairwise(letters)]
    if any(b - a < need for (a, b), need in zip(pairwise(places), needed, strict=True)):
        for label in labels:
            label.set(rotation=40, horizontalalignment=side, rotation_mode="anchor")
