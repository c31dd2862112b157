"""Marks on the points of a curve; each returns a text for the footnote if something is drawn."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from lightning_id.figures._drawing import area
from lightning_id.history import Placed, Record
from lightning_id.history.differences import since
from lightning_id.history.queries import breaks_law


def draw_hollow(
    axes: Axes, points: Iterable[tuple[float, float]], records: Sequence[Record], color: Any
) -> str:
    """Draw the points of records hollow whose neighbour ratios do not follow the law of TwoNN."""
    broken = [point for point, record in zip(points, records, strict=True) if breaks_law(record)]
    if not broken:
        return ""
    x, y = zip(*broken, strict=True)
    axes.scatter(
        x, y, s=area(axes, 22), facecolors="white", edgecolors=[color], linewidths=1.2, zorder=4
    )
    return "hollow: neighbour ratios do not follow the law of TwoNN"


def draw_changes(
    axes: Axes, now: Sequence[Placed], then: Sequence[Placed], color: Any, start: str
) -> str:
    """Draw a triangle at each layer that changed significantly, pointing where it went."""
    before = {record["layer"]: record for record in then}
    changes = [(r, since(r, before[r["layer"]])) for r in now if r["layer"] in before]
    drawn = False
    for marker, moved in (
        ("^", [r for r, change in changes if change.is_increase]),
        ("v", [r for r, change in changes if change.is_decrease]),
    ):
        if moved:
            x, y = [r["depth"] for r in moved], [r["value"] for r in moved]
            shape: dict[str, Any] = {"marker": marker, "s": area(axes, 60), "color": [color]}
            axes.scatter(x, y, **shape, edgecolors="white", linewidths=0.6, zorder=3)
            drawn = True
    if not drawn:
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
