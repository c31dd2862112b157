"""Drawing shared by the figures: colours, empty figures, texts, axes, bands, marks."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy import linspace

from lightning_id.figures._data import (
    LOG_RANGE,
    band,
    escape_mathtext,
    is_skewed,
    short_names,
    tick_positions,
)
from lightning_id.history import Placed, Record
from lightning_id.history.differences import since
from lightning_id.history.queries import breaks_law

# Even in lightness and distinct to colour-blind readers; its yellow end is too pale on white.
COLORS = ListedColormap(colormaps["viridis"](linspace(0, 0.88, 256)))
# Okabe and Ito's, without their yellow: distinct to colour-blind readers.
FEW_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
UNTRAINED = "0.35"
MOST_NAMES = 24  # that fit next to a bar of colours
SMALL = 8  # points; at 600 pixels of width still 9 pixels high
WIDTH = 7.0  # inches, for which texts are broken into lines
LETTERS_OF_AXIS = 76  # small ones along a horizontal axis next to a colour bar

Color = tuple[float, float, float, float]


def color_of(i: int, count: int) -> Any:
    """Return the colour of an item: one of few, or a place on the colour map if there are many."""
    return FEW_COLORS[i] if count <= len(FEW_COLORS) else COLORS(i / (count - 1))


def layer_colors(count: int) -> list[Color]:
    """Return the colours of layers, in the order of execution from dark to pale."""
    return [COLORS(i / max(count - 1, 1)) for i in range(count)]


def new_figure(height: int | float = 4.6, width: int | float = WIDTH) -> Figure:
    """Return an empty figure of that size in inches, unknown to pyplot."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def text_figure(text: str, width: int | float = WIDTH) -> Figure:
    """Return a figure with a text in place of a drawing."""
    figure = new_figure(2.4, width)
    draw_text(figure.add_subplot(), text)
    return figure


def draw_text(axes: Axes, text: str) -> None:
    """Write a text in place of a drawing, broken into lines."""
    axes.set_axis_off()
    # Width in letters, which at 9 points are about 0.07 inches wide.
    box = axes.get_subplotspec()
    columns = 1 if box is None else box.get_gridspec().ncols
    letters = round(84 * scale_of(axes)) // columns
    lines = textwrap.fill(escape_mathtext(text), letters)
    axes.text(0.5, 0.5, lines, ha="center", va="center", fontsize=9, transform=axes.transAxes)


def footnote(figure: Figure, *parts: str) -> None:
    """Write small print under a figure; empty parts are left out."""
    text = textwrap.fill(
        escape_mathtext(" · ".join(filter(None, parts))), round(118 * scale_of(figure))
    )
    figure.supxlabel(text, fontsize=SMALL, color="0.35", x=0.99, ha="right")


def scale_of(artist: Artist) -> float:
    """Return the width of the figure of an artist over `WIDTH`."""
    figure = artist.get_figure()
    return figure.get_figwidth() / WIDTH if isinstance(figure, Figure) else 1.0


def legend_above(figure: Figure) -> None:
    """Name the lines of a figure above its axes."""
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=SMALL)


def style_axes(axes: Axes) -> None:
    """Give axes a pale grid and no frame at the top and on the right."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def scale_values(axes: Axes, values: Iterable[int | float]) -> None:
    """Make the vertical axis logarithmic to base 2 where the range of its values needs it."""
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


def scale_time(axes: Axes, times: Sequence[int]) -> None:
    """Make the time axis logarithmic where the times crowd at the beginning."""
    if is_skewed(times):
        axes.set_xscale("symlog", linthresh=1)
        plain_numbers(axes.xaxis)
    elif len(set(times)) == 1:
        axes.set_xlim(times[0] - 1, times[0] + 1)


def time_norm(times: Sequence[int]) -> Normalize:
    """Return the scale of the colours of times."""
    if is_skewed(times):
        return LogNorm(max(min(times), 1), max(times), clip=True)
    return Normalize(min(times), max(*times, min(times) + 1))


def time_bar(figure: Figure, mappable: ScalarMappable, **options: Any) -> Colorbar:
    """Add a colour bar of times, in whole numbers."""
    bar = figure.colorbar(mappable, pad=0.01, **options)
    if isinstance(bar.norm, LogNorm):
        bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
        bar.minorticks_off()
    else:
        bar.locator = MaxNLocator(nbins=6, integer=True)
    bar.update_ticks()
    bar.ax.tick_params(labelsize=SMALL)
    return bar


def name_bar(figure: Figure, axes: Axes, names: Sequence[str], colors: Sequence[Color]) -> str:
    """Add a bar of the colours of layers with their names; return a remark if some have none."""
    short = short_names(names)
    norm = BoundaryNorm(linspace(-0.5, len(names) - 0.5, len(names) + 1), len(names))
    bar = figure.colorbar(ScalarMappable(norm, ListedColormap(colors)), ax=axes, pad=0.01)
    shown = tick_positions(len(names), MOST_NAMES)
    bar.set_ticks(shown, labels=[short[names[i]] for i in shown], fontsize=SMALL)
    bar.ax.invert_yaxis()
    bar.ax.tick_params(length=0)
    return "not every name is written" if len(names) > MOST_NAMES else ""


def draw_band(
    axes: Axes, x: Iterable[int | float], records: Iterable[Record], color: Any, alpha: float = 0.25
) -> None:
    """Draw the 95 % intervals of records at places x; records without one are left out."""
    known = [(at, *ends) for at, r in zip(x, records, strict=True) if (ends := band(r))]
    places, lows, highs = zip(*known, strict=True) if known else ((), (), ())
    if len(known) == 1:  # a band over one point has no width
        axes.vlines(places, lows, highs, color=color, alpha=alpha, linewidth=6, zorder=1)
    axes.fill_between(places, lows, highs, color=color, alpha=alpha, linewidth=0, zorder=1)


def turn_if_crowded(
    labels: Sequence[Text], places: Sequence[float], side: Literal["left", "right"]
) -> None:
    """Turn the names at places (shares of the axis) where they would touch; ``side`` stays put."""
    letters = [len(label.get_text()) + 2 for label in labels]
    fit = round(LETTERS_OF_AXIS * scale_of(labels[0])) if labels else LETTERS_OF_AXIS
    needed = [(a + b) / 2 / fit for a, b in pairwise(letters)]
    if any(b - a < need for (a, b), need in zip(pairwise(places), needed, strict=True)):
        for label in labels:
            label.set(rotation=40, horizontalalignment=side, rotation_mode="anchor")


# --- marks on the points of a curve: each returns a text for the footnote if something is drawn --


def draw_hollow(
    axes: Axes, points: Iterable[tuple[float, float]], records: Sequence[Record], color: Any
) -> str:
    """Draw the points of records hollow whose neighbour ratios do not follow the law of TwoNN."""
    broken = [point for point, record in zip(points, records, strict=True) if breaks_law(record)]
    if not broken:
        return ""
    x, y = zip(*broken, strict=True)
    axes.scatter(
        x,
        y,
        s=22 * scale_of(axes),
        facecolors="white",
        edgecolors=[color],
        linewidths=1.2,
        zorder=4,
    )
    return "hollow: neighbour ratios do not follow the law of TwoNN"


def draw_changes(
    axes: Axes, now: Sequence[Placed], then: Sequence[Placed], color: Any, start: str
) -> str:
    """Draw a triangle at each layer that changed significantly, pointing where it went."""
    before = {record["layer"]: record for record in then}
    changes = [(r, since(r, before[r["layer"]])) for r in now if r["layer"] in before]
    for marker, moved in (
        ("^", [r for r, change in changes if change.is_increase]),
        ("v", [r for r, change in changes if change.is_decrease]),
    ):
        if moved:
            x, y = [r["depth"] for r in moved], [r["value"] for r in moved]
            shape: dict[str, Any] = {"marker": marker, "s": 60 * scale_of(axes), "color": [color]}
            axes.scatter(x, y, **shape, edgecolors="white", linewidths=0.6, zorder=3)
    if not any(change.is_increase or change.is_decrease for _, change in changes):
        return ""
    is_paired = all(change.is_paired for _, change in changes)
    bars = f"{'paired' if is_paired else 'separate'} 95 % bars"
    return f"triangles: changed since {start} ({bars})"


def shade_bracket(axes: Axes, low: Sequence[Placed], high: Sequence[Placed], color: Any) -> str:
    """Hatch from TwoNN up to ESS in the layers that have both."""
    upper: Mapping[str, float] = {record["layer"]: record["value"] for record in high}
    shared = [(r["depth"], r["value"], upper[r["layer"]]) for r in low if r["layer"] in upper]
    if not shared:
        return ""
    places, lows, highs = zip(*shared, strict=True)
    axes.fill_between(
        places, lows, highs, facecolor="none", edgecolor=color, alpha=0.35, hatch="///", linewidth=0
    )
    return "hatched: from TwoNN to ESS"
