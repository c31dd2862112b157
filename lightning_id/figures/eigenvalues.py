"""Figure of the spectra of the layers."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import geomspace
from torch import Tensor

from lightning_id.figures._drawing import (
    UNTRAINED,
    Color,
    draw_text,
    footnote,
    layer_colors,
    name_bar,
    new_figure,
    plain_numbers,
    style_axes,
    text_figure,
)
from lightning_id.functional.pca import rounding_noise
from lightning_id.history import BEFORE_TRAINING, History
from lightning_id.history.queries import describe, last_of_fit

MOST_POINTS = 200  # of a line; even on the logarithmic axis


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
        _draw(shares, known[last][layer], color)
    _finish(shares, "share of the variance")
    shares.set_title(describe(last), fontsize=9)
    if first == last:
        draw_text(ratios, "Spectra of one measurement only: nothing to compare with.")
    else:
        before = "untrained" if first.stage == BEFORE_TRAINING else describe(first)
        _draw_ratios(ratios, known[first], known[last], colors)
        _finish(ratios, "")
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


def _draw_ratios(
    axes: Axes, before: Mapping[str, Tensor], after: Mapping[str, Tensor], colors: Sequence[Color]
) -> None:
    for color, layer in zip(colors, after, strict=True):
        if layer in before:
            both = min(len(before[layer]), len(after[layer]))
            _draw(axes, after[layer][:both] / before[layer][:both], color)
    axes.axhline(1, color=UNTRAINED, linestyle=":", linewidth=1)


def _draw(axes: Axes, values: Tensor, color: Color) -> None:
    places = sorted({round(i) for i in geomspace(1, len(values), MOST_POINTS)})
    axes.plot(
        places,
        values[[i - 1 for i in places]].tolist(),
        color=color,
        linewidth=1,
        marker="o" if len(values) == 1 else None,
    )


def _finish(axes: Axes, y: str) -> None:
    axes.set_xscale("log")
    low, high = axes.dataLim.intervaly
    axes.set_yscale("log", base=10 if high > 50 * low else 2)
    plain_numbers(axes.xaxis)
    plain_numbers(axes.yaxis)
    axes.set_xlabel("eigenvalue, largest first")
    axes.set_ylabel(y)
    style_axes(axes)
