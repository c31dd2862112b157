"""Figures over the depth of the network."""

import io
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from lightning_id.figures._data import (
    Clock,
    axis_label,
    band,
    explain_missing,
    explain_missing_metric,
    is_skewed,
    metric_course,
    metric_label,
    short_names,
    subsample_evenly,
    without_value,
)
from lightning_id.figures._drawing import (
    COLORS,
    FEW_COLORS,
    SMALL,
    UNTRAINED,
    WIDTH,
    color_of,
    draw_band,
    draw_changes,
    draw_hollow,
    draw_text,
    footnote,
    legend_above,
    new_figure,
    plain_numbers,
    scale_of,
    scale_values,
    shade_bracket,
    style_axes,
    text_figure,
    time_bar,
    time_norm,
    turn_if_crowded,
)
from lightning_id.figures.by_time import layers_over_time
from lightning_id.functional import estimator_spec
from lightning_id.history import BEFORE_TRAINING, FIT, History, Placed, Validation
from lightning_id.history.queries import (
    course,
    describe,
    describe_samples,
    last_of_fit,
    profiles,
    start,
)

LOWER_BOUND_ABOVE = estimator_spec("twonn").lower_bound_above or 0
MOST_LINES = 40  # more cannot be distinguished, and cost time and bytes
_MARKERS = "osD^vP*X"
# Of the moving picture:
MOST_FRAMES = 60
DPI = 100
PALETTE = 128  # colours of a frame
FRAME, PAUSE = 250, 4000  # milliseconds: of a measurement, of the last two frames


def depth_profile(
    history: History, estimator: str = "twonn", *, width: int | float = WIDTH
) -> Figure:
    """Draw the dimension against relative depth, one line per measurement, coloured by time.

    Time is the number of epochs, or of steps if an epoch has several measurements. The network
    before training is dashed, a test is dotted, the last measurement of the fit has its 95 % band,
    and the region in which TwoNN is usually too low is shaded. Triangles are layers that changed
    significantly since the start, hollow points do not follow the law of TwoNN, and the bracket
    from TwoNN to ESS is hatched. Below are the widths of the layers. Of more than 40 measurements
    40 at even distances are drawn, and the footnote counts them.
    """
    found = profiles(history, estimator)
    last = last_of_fit(found)
    if last is None:
        return text_figure(explain_missing(history, estimator), width)
    figure = new_figure(min(5, width), width)
    axes, widths = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    drawn = dict(subsample_evenly(list(found.items()), MOST_LINES)) | {last: found[last]}
    hollow = _draw_lines(figure, axes, drawn, Clock.of(found))
    color = COLORS(1.0) if last.stage == FIT else UNTRAINED
    draw_band(axes, points(found[last])[0], found[last], color, 0.3)
    begin = start(history)
    changed = (
        draw_changes(axes, found[last], found[begin], color, describe(begin))
        if begin in found
        else ""
    )
    above = profiles(history, "ess").get(last, []) if estimator == "twonn" else []
    bracket = shade_bracket(axes, found[last], above, color)
    shown = [*drawn.values(), above]
    scale_values(axes, [r["value"] for records in shown for r in records])
    shaded = _shade_lower_bound(axes, estimator)
    label_layers(axes, found[last])
    _draw_widths(widths, found[last])
    axes.set_ylabel(axis_label(estimator))
    style_axes(axes)
    footnote(
        figure,
        describe_samples(found[last]),
        "band: 95 %" if any(map(band, found[last])) else "",
        changed,
        hollow,
        bracket,
        shaded,
        "" if len(drawn) == len(found) else f"{len(drawn)} of {len(found)} lines drawn, evenly",
    )
    return figure


def linear_and_nonlinear(history: History) -> Figure:
    """Draw PCA (90 % of the variance) and TwoNN of the last measurement, and their ratio.

    A ratio far above 1 means that the representation is curved: a linear subspace that holds it
    needs more dimensions than it has. The TwoNN of Gaussian rows of the same covariance (estimator
    ``twonn_gaussian``) is drawn too if it was measured: it is that of a linear representation.
    """
    twonn, pca = profiles(history, "twonn"), profiles(history, "pca")
    last = last_of_fit(validation for validation in twonn if validation in pca)
    if last is None:
        return text_figure(explain_missing(history, "pca" if twonn else "twonn"))
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
        axes.plot(*points(records), color=color, marker=marker, markersize=4, label=label)
    draw_band(axes, points(twonn[last])[0], twonn[last], FEW_COLORS[0], 0.3)
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
        style_axes(ratio)
    else:
        draw_text(ratio, "No layer has both estimates.")
    ratio.set_ylabel("PCA / TwoNN")
    finish_depth(ratio)
    label_layers(axes, twonn[last])
    style_axes(axes)
    footnote(figure, describe(last), describe_samples(twonn[last]))
    return figure


def compare(histories: Mapping[str, History], estimator: str = "twonn") -> Figure:
    """Draw the last profiles of runs, by name, on the same axes, with their 95 % bands.

    Runs without a value are named below.
    """
    found = {name: profiles(history, estimator) for name, history in histories.items()}
    drawn = {name: each[last] for name, each in found.items() if (last := last_of_fit(each))}
    if not drawn:
        first = next(iter(histories.values()), History())
        return text_figure(
            explain_missing(first, estimator)
            if len(histories) < 2
            else f"None of {len(histories)} runs has a {estimator} estimate with a depth."
        )
    figure = new_figure(5)
    axes = figure.add_subplot()
    names = short_names(list(drawn), most=28)
    for i, (name, records) in enumerate(drawn.items()):
        color, marker = color_of(i, len(drawn)), _MARKERS[i % len(_MARKERS)]
        axes.plot(*points(records), color=color, marker=marker, markersize=4, label=names[name])
        draw_band(axes, points(records)[0], records, color, 0.15)
    scale_values(axes, [r["value"] for records in drawn.values() for r in records])
    shaded = _shade_lower_bound(axes, estimator)
    finish_depth(axes)
    axes.set_ylabel(axis_label(estimator))
    style_axes(axes)
    legend_above(figure)
    footnote(
        figure,
        describe_samples([r for records in drawn.values() for r in records]),
        shaded,
        without_value(histories, drawn),
    )
    return figure


def _draw_lines(
    figure: Figure, axes: Axes, drawn: Mapping[Validation, list[Placed]], clock: Clock
) -> str:
    """Draw the lines, and return the text on hollow points if there are any."""
    times = [clock.time(v) for v in drawn if v.stage == FIT] or [0]
    norm = time_norm(times)
    stages = {validation.stage for validation in drawn}
    names = {BEFORE_TRAINING: "before training", FIT: None}
    if stages == {BEFORE_TRAINING, "validate"}:  # of `lightning-id profile --both`
        names["validate"] = "trained"
    named = set()  # one line in the legend for each kind
    hollow = ""
    for validation, records in drawn.items():
        stage = validation.stage
        color = COLORS(norm(clock.time(validation))) if stage == FIT else UNTRAINED
        style = {BEFORE_TRAINING: "--", FIT: "-"}.get(stage, ":")
        axes.plot(
            *points(records),
            color=color,
            linestyle=style,
            marker="o",
            markersize=((18 if len(drawn) <= 12 else 6) * scale_of(axes)) ** 0.5,
            markeredgewidth=0,
            linewidth=1.5 if len(drawn) <= 12 else 1,
            label=None if stage in named else names.get(stage, stage),
            zorder=2,
        )
        named.add(stage)
        hollow = draw_hollow(axes, zip(*points(records), strict=True), records, color) or hollow
    if stages not in ({FIT}, {"validate"}):
        axes.legend(frameon=False, fontsize=9)
    if len(set(times)) > 1:
        time_bar(figure, ScalarMappable(norm, COLORS), ax=axes, label=clock.name)
    return hollow


def _draw_widths(axes: Axes, records: Sequence[Placed]) -> None:
    widths = [(r["depth"], r["ambient_dimension"]) for r in records if r["ambient_dimension"]]
    if widths:
        axes.plot(*zip(*widths, strict=True), color="0.45", marker="_", linewidth=0.6)
        ends = sorted({f(width for _, width in widths) for f in (min, max)})
        axes.set_yscale("log")
        axes.set_yticks(ends, list(map(str, ends)))
        axes.set_yticks([], minor=True)
        axes.margins(y=0.3)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_ylabel("width", fontsize=SMALL)
    finish_depth(axes)
    style_axes(axes)


def points(records: Sequence[Placed]) -> tuple[list[float], list[float]]:
    """Return depths and values."""
    return [r["depth"] for r in records], [r["value"] for r in records]


def label_layers(axes: Axes, records: Sequence[Placed]) -> None:
    """Write the names of the layers along the top; layers of one depth share a place."""
    names = short_names([r["layer"] for r in records])
    places: dict[float, list[str]] = {}
    for record in records:
        places.setdefault(record["depth"], []).append(names[record["layer"]])
    shown = far_enough_apart(sorted(places), 0.035)
    top = axes.secondary_xaxis("top")
    top.set_xticks(shown, [joined(places[place]) for place in shown], fontsize=SMALL)
    top.tick_params(length=0)
    turn_if_crowded(top.get_xticklabels(), shown, "left")


def finish_depth(axes: Axes) -> None:
    """Scale and label the axis of the depth."""
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("relative depth (Conv and Linear layers passed / all)")


def joined(names: Sequence[str]) -> str:
    """Return the names of layers of one depth as one, of more than two with their number."""
    return ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "")


def far_enough_apart(places: Sequence[float], least: float) -> list[float]:
    """Return places of which none is nearer to the one before than ``least``, with the last."""
    shown: list[float] = []
    for place in places:
        if not shown or place - shown[-1] >= least:
            shown.append(place)
        elif place == places[-1]:
            shown[-1] = place
    return shown


def _shade_lower_bound(axes: Axes, estimator: str) -> str:
    """Shade the values that are usually too low, if there are any, and return a text for it."""
    top, bound = axes.get_ylim()[1], estimator_spec(estimator).lower_bound_above
    if bound is None or top <= bound:
        return ""
    axes.axhspan(bound, top, color="0.92", zorder=0)
    axes.set_ylim(top=top)
    return f"shaded, above {bound}: usually too low"


def moving_profile(history: History, estimator: str = "twonn", metric: str = "val_acc") -> bytes:
    """Draw the depth profile as it grows measurement by measurement, above a metric, as a GIF.

    The measurement of the frame has its 95 % band, earlier ones are pale, and the network before
    training is dashed. The last frame is `layers_over_time`. Of more than 60 measurements 60 at
    even distances are drawn.

    Args:
        history: The history.
        estimator: Name of the dimension.
        metric: Key of the metric.

    Returns:
        The content of a GIF file of 700 x 500 pixels, below 2 MB.
    """
    found = profiles(history, estimator)
    shown = {v: found[v] for v in subsample_evenly(course(found), MOST_FRAMES)}
    if not shown:
        return _gif([_pixels(text_figure(explain_missing(history, estimator)))])
    frames = list(_frames(history, estimator, metric, shown))
    return _gif([*frames, _pixels(layers_over_time(history, estimator, metric))])


def _frames(
    history: History, estimator: str, metric: str, shown: dict[Validation, list[Placed]]
) -> Iterator[Image.Image]:
    clock = Clock.of(shown)
    figure = new_figure(5)
    axes, below = figure.subplots(2, 1, height_ratios=(3, 1))
    values = [r["value"] for records in shown.values() for r in records]
    axes.set_ylim(0, 1.1 * max(values))
    scale_values(axes, values)
    label_layers(axes, next(reversed(shown.values())))
    finish_depth(axes)
    axes.set_ylabel(axis_label(estimator))
    logged = _prepare_metric(below, history, metric, clock, shown)
    (curve,) = below.plot([], [], color=FEW_COLORS[1], marker="o", markersize=4)
    for each in (axes, below):
        style_axes(each)
    figure.suptitle(describe(next(iter(shown))), fontsize=10)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # nothing moves but the curves
    norm = time_norm([clock.time(v) for v in shown])
    for validation, records in shown.items():
        untrained = validation.stage == BEFORE_TRAINING
        color = UNTRAINED if untrained else COLORS(norm(clock.time(validation)))
        (line,) = axes.plot(*points(records), color=color, marker="o", linewidth=2.5)
        line.set_linestyle("--" if untrained else "-")
        draw_band(axes, points(records)[0], records, color)
        known = [point for point in logged if point[0] <= clock.time(validation)]
        curve.set_data([time for time, _ in known], [value for _, value in known])
        figure.suptitle(describe(validation), fontsize=10)
        yield _pixels(figure)
        line.set(linewidth=1.5 if untrained else 1, marker="", alpha=1 if untrained else 0.35)
        for each in list(axes.collections):  # the band
            each.remove()


def _prepare_metric(
    axes: Axes, history: History, metric: str, clock: Clock, shown: dict[Validation, list[Placed]]
) -> list[tuple[int, float]]:
    """Scale and label the axes of a metric, and return its times and values."""
    logged = metric_course(history, metric, clock, shown)
    if not logged:
        draw_text(axes, explain_missing_metric(history, metric))
        return []
    times = [clock.time(v) for v in shown] + [time for time, _ in logged]
    axes.update_datalim([(time, value) for time in times for _, value in logged])
    axes.margins(0.03, 0.15)
    axes.autoscale_view()
    axes.autoscale(enable=False)
    axes.set_ylabel(metric_label(metric))
    axes.set_xlabel(clock.name)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if is_skewed(times):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, 1.1 * max(times))
        plain_numbers(axes.xaxis)
    return logged


def _pixels(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return Image.open(file).convert("RGB")


def _gif(frames: Sequence[Image.Image]) -> bytes:
    """Return frames as a GIF with one palette; the last two frames stand longer."""
    colors = frames[-1]
    if len(frames) > 1:  # of the last measurement and the last frame
        both = Image.new("RGB", (frames[-1].width, 2 * frames[-1].height))
        both.paste(frames[-2])
        both.paste(frames[-1], (0, frames[-1].height))
        colors = both
    palette = colors.quantize(PALETTE, method=Image.Quantize.MAXCOVERAGE)  # white stays white
    few = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    few[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=few[1:],
        duration=[*[FRAME] * (len(few) - 2), PAUSE, PAUSE][-len(few) :],
        loop=0,
    )
    return file.getvalue()
