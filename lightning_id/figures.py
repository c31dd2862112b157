"""Pictures of a history: pure functions from a `History` to a matplotlib figure."""

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy import linspace

from lightning_id.history import BEFORE_TRAINING, History, Record, has_value

LOWER_BOUND_ABOVE = 20  # where TwoNN starts to underestimate (any dimension above is a lower bound)
# Even in lightness and told apart by colour-blind readers; its yellow end is too pale on white.
_COLORS = ListedColormap(colormaps["viridis"](linspace(0, 0.88, 256)))


def depth_profile(history: History, estimator: str = "twonn") -> Figure:
    """Draw the dimension against relative depth, one line per validation, coloured by epoch.

    The network before training is dashed, the last validation has its 95 % band, and the region in
    which TwoNN is a lower bound is shaded.

    Args:
        history: What was measured.
        estimator: Which dimension to draw.

    Returns:
        A figure of its own, unknown to pyplot: nothing stays behind when it is dropped.
    """
    figure = Figure(figsize=(7, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    profiles = [
        (validation, [r for r in history.at(validation, estimator) if _is_drawn(r)])
        for validation in history.validations()
    ]
    profiles = [(validation, records) for validation, records in profiles if records]
    if not profiles:
        axes.text(0.5, 0.5, f"no {estimator} dimension in this history", ha="center", va="center")
        axes.set_axis_off()
        return figure
    trained = [epoch for (stage, epoch, _), _ in profiles if stage != BEFORE_TRAINING]
    norm = Normalize(min(trained, default=0) + 1, max([*trained, 1]) + 1)
    for (stage, epoch, _), records in profiles:
        before = stage == BEFORE_TRAINING
        axes.plot(
            [r["depth"] for r in records],
            [r["value"] for r in records],
            color="0.35" if before else _COLORS(norm(epoch + 1)),
            linestyle="--" if before else "-",
            marker="o",
            markersize=4,
            label="before training" if before else None,
            zorder=2,
        )
    _draw_band(axes, profiles[-1][1])
    _label_layers(axes, profiles[-1][1])
    _shade_lower_bound(axes, estimator)
    if trained:
        bar = figure.colorbar(ScalarMappable(norm, _COLORS), ax=axes, label="epoch", pad=0.01)
        bar.locator = MaxNLocator(integer=True)
        bar.update_ticks()
    if any(stage == BEFORE_TRAINING for (stage, _, _), _ in profiles):
        axes.legend(loc="best", frameon=False)
    axes.set_xlabel("relative depth (Conv and Linear layers passed / all)")
    axes.set_ylabel({"twonn": "intrinsic dimension (TwoNN)"}.get(estimator, estimator))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _is_drawn(record: Record) -> bool:
    return has_value(record) and record["depth"] is not None


def _draw_band(axes: Axes, records: list[Record]) -> None:
    with_error = [r for r in records if r["low"] is not None and r["low"] == r["low"]]
    axes.fill_between(
        [r["depth"] for r in with_error],
        [r["low"] for r in with_error],
        [r["high"] for r in with_error],
        color=_COLORS(1.0),
        alpha=0.35,
        linewidth=0,
        zorder=1,
    )


def _label_layers(axes: Axes, records: list[Record]) -> None:
    """Write the names of the layers along the top; layers of one depth share a place."""
    names: dict[float, list[str]] = {}
    for record in records:
        names.setdefault(record["depth"], []).append(record["layer"])
    top = axes.secondary_xaxis("top")
    top.set_xticks(list(names), [", ".join(n) for n in names.values()], fontsize=8)
    top.tick_params(length=0)
    if len(names) > 6:
        for label in top.get_xticklabels():
            label.set_rotation(40)
            label.set_horizontalalignment("left")


def _shade_lower_bound(axes: Axes, estimator: str) -> None:
    top = axes.get_ylim()[1]
    if estimator == "twonn" and top > LOWER_BOUND_ABOVE:
        axes.axhspan(LOWER_BOUND_ABOVE, top, color="0.92", zorder=0)
        axes.text(
            0.99, LOWER_BOUND_ABOVE, "lower bound above ", va="bottom", ha="right", fontsize=8,
            color="0.4", transform=axes.get_yaxis_transform(),
        )  # fmt: skip
        axes.set_ylim(top=top)
