"""Figures over the depth of the network."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lightning_id.console import LOWER_BOUND_ABOVE
from lightning_id.figures.common import (
    COLORS,
    FEW_COLORS,
    FIT,
    SMALL,
    UNTRAINED,
    Clock,
    evenly,
    has_band,
    label_of,
    last_of,
    missing,
    norm_of,
    profiles,
    samples_in_words,
    short_names,
    shortened,
)
from lightning_id.figures.paper import (
    draw_band,
    finish_time_bar,
    footnote,
    new_figure,
    only_words,
    scale_values,
    tidy,
    turn_if_crowded,
    words,
)
from lightning_id.history import BEFORE_TRAINING, History, Record, Validation

MOST_LINES = 40  # more are not told apart, and cost time and bytes
_MARKERS = "osD^vP*X"


def depth_profile(history: History, estimator: str = "twonn") -> Figure:
    """Draw the dimension against relative depth, one line per measurement, coloured by time.

    Time is the number of epochs, or of steps if an epoch has several measurements. The network
    before training is dashed, a test is dotted, the last measurement of the training has its 95 %
    band, and the region in which TwoNN is a lower bound is shaded. Below are the widths of the
    layers. Of more than 40 measurements an even choice is drawn, and the figure says so.

    Args:
        history: What was measured.
        estimator: Which dimension to draw.

    Returns:
        The figure.
    """
    found = profiles(history, estimator)
    if not found:
        return only_words(missing(history, estimator))
    figure = new_figure(5)
    axes, widths = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    last = last_of(list(found))
    drawn = dict(evenly(list(found.items()), MOST_LINES)) | {last: found[last]}
    _draw_lines(figure, axes, drawn, Clock.of(found))
    draw_band(axes, found[last], COLORS(1.0) if last[0] == FIT else UNTRAINED)
    scale_values(axes, [r["value"] for records in drawn.values() for r in records])
    shaded = _shade_lower_bound(axes, estimator)
    _label_layers(axes, found[last])
    _draw_widths(widths, found[last])
    axes.set_ylabel(label_of(estimator))
    tidy(axes)
    footnote(
        figure,
        [
            samples_in_words(found[last]),
            "band: 95 %" if any(map(has_band, found[last])) else "",
            shaded,
            "" if len(drawn) == len(found) else f"{len(drawn)} of {len(found)} lines drawn, evenly",
        ],
    )
    return figure


def linear_and_nonlinear(history: History) -> Figure:
    """Draw PCA (90 % of the variance) and TwoNN of the last measurement, and their ratio.

    A ratio far above 1 says that the representation is curved: a linear subspace that holds it has
    more dimensions than it has. The TwoNN of Gaussian rows of the same covariance is drawn too
    where it was measured (estimator ``twonn_gaussian``): it is that of a linear representation.

    Args:
        history: What was measured.

    Returns:
        The figure.
    """
    twonn, pca = profiles(history, "twonn"), profiles(history, "pca")
    both = [validation for validation in twonn if validation in pca]
    if not both:
        lacking = "twonn" if not twonn else "pca"
        return only_words(missing(history, lacking))
    last = last_of(both)
    figure = new_figure(5.4)
    axes, ratio = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    gaussian = profiles(history, "twonn_gaussian").get(last, [])
    for records, color, marker, label in (
        (pca[last], FEW_COLORS[1], "s", "PCA, 90 % of the variance"),
        (gaussian, FEW_COLORS[2], "^", "TwoNN of a Gaussian of the same covariance"),
        (twonn[last], FEW_COLORS[0], "o", "TwoNN, with 95 % band"),
    ):
        if not records:
            continue
        axes.plot(*_points(records), color=color, marker=marker, markersize=4, label=label)
    draw_band(axes, twonn[last], FEW_COLORS[0])
    scale_values(axes, [r["value"] for r in twonn[last] + pca[last] + gaussian])
    axes.set_ylabel("dimension")
    axes.legend(frameon=False, fontsize=9)
    linear = {r["layer"]: r["value"] for r in pca[last]}
    shared = [r for r in twonn[last] if r["layer"] in linear and r["value"] > 0]
    if shared:
        ratios = [linear[r["layer"]] / r["value"] for r in shared]
        ratio.plot([r["depth"] for r in shared], ratios, color="0.2", marker="o", markersize=4)
        ratio.axhline(1, color="0.5", linestyle=":", linewidth=1)
        scale_values(ratio, [*ratios, 1.0])
        tidy(ratio)
    else:
        words(ratio, "No layer has both estimates.")
    ratio.set_ylabel("PCA / TwoNN")
    _finish_depth(ratio)
    _label_layers(axes, twonn[last])
    tidy(axes)
    footnote(figure, [Clock.of(twonn).words(last), samples_in_words(twonn[last])])
    return figure


def compare(histories: Mapping[str, History], estimator: str = "twonn") -> Figure:
    """Lay the last profiles of several runs over each other, with their 95 % bands.

    Args:
        histories: What was measured, by name of the run.
        estimator: Which dimension to draw.

    Returns:
        The figure. Runs without a value are named below it.
    """
    found = {name: profiles(history, estimator) for name, history in histories.items()}
    drawn = {name: each[last_of(list(each))] for name, each in found.items() if each}
    if not drawn:
        first = next(iter(histories.values()), History())
        return only_words(
            missing(first, estimator)
            if len(histories) < 2
            else f"None of {len(histories)} runs has a {estimator} estimate with a depth."
        )
    figure = new_figure(5)
    axes = figure.add_subplot()
    many = len(drawn) > len(FEW_COLORS)
    names = short_names(list(drawn), most=28)
    for i, (name, records) in enumerate(drawn.items()):
        color = COLORS(i / (len(drawn) - 1)) if many else FEW_COLORS[i]
        marker = _MARKERS[i % len(_MARKERS)]
        axes.plot(*_points(records), color=color, marker=marker, markersize=4, label=names[name])
        draw_band(axes, records, color, alpha=0.15)
    scale_values(axes, [r["value"] for records in drawn.values() for r in records])
    shaded = _shade_lower_bound(axes, estimator)
    _finish_depth(axes)
    axes.set_ylabel(label_of(estimator))
    tidy(axes)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=SMALL)
    without = [name for name in histories if name not in drawn]
    footnote(
        figure,
        [
            samples_in_words([r for records in drawn.values() for r in records]),
            shaded,
            f"without a value: {shortened(', '.join(without), 150)}" if without else "",
        ],
    )
    return figure


def _draw_lines(
    figure: Figure, axes: Axes, drawn: Mapping[Validation, list[Record]], clock: Clock
) -> None:
    times = [clock.time(v) for v in drawn if v[0] == FIT] or [0]
    norm = norm_of(times)
    stages = {stage for stage, _, _ in drawn}
    names = {BEFORE_TRAINING: "before training", FIT: None}
    if stages == {BEFORE_TRAINING, "validate"}:  # of `lightning-id profile --both`
        names["validate"] = "trained"
    named = set()  # one line in the legend for each kind
    for validation, records in drawn.items():
        stage = validation[0]
        style = {BEFORE_TRAINING: "--", FIT: "-"}.get(stage, ":")
        axes.plot(
            *_points(records),
            color=COLORS(norm(clock.time(validation))) if stage == FIT else UNTRAINED,
            linestyle=style,
            marker="o",
            markersize=4 if len(drawn) <= 12 else 2.5,
            linewidth=1.5 if len(drawn) <= 12 else 1,
            label=None if stage in named else names.get(stage, stage),
            zorder=2,
        )
        named.add(stage)
    if stages not in ({FIT}, {"validate"}):
        axes.legend(frameon=False, fontsize=9)
    if len(set(times)) > 1:
        _draw_bar(figure, axes, norm, clock)


def _draw_bar(figure: Figure, axes: Axes, norm: Normalize, clock: Clock) -> None:
    bar = figure.colorbar(ScalarMappable(norm, COLORS), ax=axes, label=clock.name, pad=0.01)
    finish_time_bar(bar)


def _draw_widths(axes: Axes, records: Sequence[Record]) -> None:
    known = [r for r in records if r["ambient_dimension"]]
    axes.plot(
        [r["depth"] for r in known],
        [r["ambient_dimension"] for r in known],
        color="0.45",
        marker="_",
        linewidth=0.6,
    )
    if known:
        ends = {f(r["ambient_dimension"] for r in known) for f in (min, max)}
        axes.set_yscale("log")
        axes.set_yticks(sorted(ends), [str(end) for end in sorted(ends)])
        axes.set_yticks([], minor=True)
        axes.margins(y=0.3)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_ylabel("width", fontsize=SMALL)
    _finish_depth(axes)
    tidy(axes)


def _points(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    return [r["depth"] for r in records], [r["value"] for r in records]


def _label_layers(axes: Axes, records: Sequence[Record]) -> None:
    """Write the names of the layers along the top; layers of one depth share a place."""
    names = short_names([r["layer"] for r in records])
    places: dict[float, list[str]] = {}
    for record in records:
        places.setdefault(record["depth"], []).append(names[record["layer"]])
    shown = _far_enough_apart(sorted(places), 0.035)
    top = axes.secondary_xaxis("top")
    top.set_xticks(shown, [_joined(places[place]) for place in shown], fontsize=SMALL)
    top.tick_params(length=0)
    turn_if_crowded(top.get_xticklabels(), shown, "left")


def _finish_depth(axes: Axes) -> None:
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("relative depth (Conv and Linear layers passed / all)")


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "")


def _far_enough_apart(places: Sequence[float], least: float) -> list[float]:
    """Return places of which none is nearer to the one before than ``least``, with the last."""
    shown: list[float] = []
    for place in places:
        if not shown or place - shown[-1] >= least:
            shown.append(place)
        elif place == places[-1]:
            shown[-1] = place
    return shown


def _shade_lower_bound(axes: Axes, estimator: str) -> str:
    """Shade where TwoNN is a lower bound, if anything is there, and return what the shade says."""
    top = axes.get_ylim()[1]
    if estimator != "twonn" or top <= LOWER_BOUND_ABOVE:
        return ""
    axes.axhspan(LOWER_BOUND_ABOVE, top, color="0.92", zorder=0)
    axes.set_ylim(top=top)
    return f"shaded, above {LOWER_BOUND_ABOVE}: a lower bound"
