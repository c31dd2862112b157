"""Figures of a history: pure functions from a `History` to a matplotlib figure.

Every figure belongs to its caller alone: pyplot does not know it, and nothing stays behind when it
is dropped. Where a history lacks the data, the figure explains that in a text. Throughout,
``estimator`` is the name of the dimension, ``metric`` the key of a metric in the history, and
``width`` the width of the figure in inches.
"""

from collections.abc import Callable

from matplotlib.figure import Figure

from lightning_id.figures.by_depth import (
    LOWER_BOUND_ABOVE,
    compare,
    depth_profile,
    linear_and_nonlinear,
    moving_profile,
)
from lightning_id.figures.by_time import (
    compare_last_hidden,
    heat_map,
    last_hidden_and_metric,
    last_hidden_over_time,
    layers_over_time,
)
from lightning_id.figures.snapshots import per_class, scale_profiles, spectra
from lightning_id.history import History

KINDS: dict[str, Callable[..., Figure]] = {
    draw.__name__: draw
    for draw in (
        depth_profile,
        heat_map,
        last_hidden_and_metric,
        last_hidden_over_time,
        layers_over_time,
        linear_and_nonlinear,
        per_class,
        spectra,
    )
}

__all__ = [
    "KINDS",
    "LOWER_BOUND_ABOVE",
    "compare",
    "compare_last_hidden",
    "depth_profile",
    "heat_map",
    "last_hidden_and_metric",
    "last_hidden_over_time",
    "layers_over_time",
    "linear_and_nonlinear",
    "moving_profile",
    "per_class",
    "plot",
    "scale_profiles",
    "spectra",
]


def plot(history: History, kind: str = "depth_profile", **options: str) -> Figure:
    """Draw a history by the name of a figure.

    Args:
        history: The history.
        kind: A key of `KINDS`.
        **options: Further arguments of that function, for example ``estimator="pca"``.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind`: expected one of {', '.join(KINDS)}, got {kind!r}")
    return KINDS[kind](history, **options)
