"""Pictures of a history: pure functions from a `History` to a matplotlib figure.

Every figure belongs to its caller alone: pyplot does not know it, and nothing stays behind when it
is dropped. What is missing in a history is said in words, in place of the drawing.
"""

from lightning_id.console import LOWER_BOUND_ABOVE
from lightning_id.figures.by_class import per_class
from lightning_id.figures.by_depth import (
    compare,
    depth_profile,
    linear_and_nonlinear,
)
from lightning_id.figures.by_scale import scale_profiles
from lightning_id.figures.by_time import heat_map, last_hidden_and_metric
from lightning_id.figures.eigenvalues import spectra

__all__ = [
    "LOWER_BOUND_ABOVE",
    "compare",
    "depth_profile",
    "heat_map",
    "last_hidden_and_metric",
    "linear_and_nonlinear",
    "per_class",
    "scale_profiles",
    "spectra",
]
