"""A moving picture of the depth profile."""

import io
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from lightning_id.figures._data import (
    Clock,
    axis_label,
    explain_missing,
    explain_missing_metric,
    is_skewed,
    metric_course,
    metric_label,
    subsample_evenly,
)
from lightning_id.figures._drawing import (
    COLORS,
    FEW_COLORS,
    UNTRAINED,
    draw_band,
    draw_text,
    new_figure,
    plain_numbers,
    scale_values,
    style_axes,
    text_figure,
    time_norm,
)
from lightning_id.figures.by_depth import finish_depth, label_layers, points
from lightning_id.figures.by_time import layers_over_time
from lightning_id.history import BEFORE_TRAINING, History, Placed, Validation
from lightning_id.history.queries import course, describe, profiles

MOST_FRAMES = 60
DPI = 100
PALETTE = 128  # colours of a frame
FRAME, PAUSE = 250, 4000  # milliseconds: of a measurement, of the last two frames


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
        draw_band(axes, [r["depth"] for r in records], records, color)
        known = [point for point in logged if point[0] <= clock.time(validation)]
        curve.set_data([time for time, _ in known], [value for _, value in known])
        figure.suptitle(describe(validation), fontsize=10)
        yield _pixels(figure)
        line.set(linewidth=1.5 if untrained else 1, marker="", alpha=1 if untrained else 0.35)
        for band in list(axes.collections):
            band.remove()


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
