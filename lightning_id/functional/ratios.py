"""Ties, error bar and reasons of the estimators from ratios of nearest distances.

TwoNN, Gride and MLE each supply a `RatioFit` of the distances of the rows that carry a ratio.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_id.functional.estimate import (
    Estimate,
    Influence,
    ks_distance,
    renumber,
    shared_neighbor_std_error,
)
from lightning_id.functional.geometry import MIN_DISTINCT, Geometry

# Share of tied rows above which the estimate may be that of a grid or of coarse features. Smooth
# features in half precision have none; bfloat16 at mean 1, deviation 1, ID 2 has 0.6 % and is 25 %
# off.
_TIES_WORTH_A_NOTE = 0.002

# Ratios closer to 1 than rounding resolves are as good as others while they are as many as a smooth
# law has there: about as many as between one and two resolutions. Above that many times as many,
# apart from a share of the rows too small to matter and from two rows, which chance brings there,
# the ratios are ties that rounding broke. A law passes up to a resolution of 2.3 times its mean log
# ratio.
_MORE_THAN_SMOOTH = 10
_NEGLIGIBLE_SHARE = 0.002
_CHANCE_ROWS = 2

# Of clouds that fill 1 to 5 columns (50 to 1000 rows, four laws, 8000 clouds) one in thirty is
# above their number by more than two standard errors, but by half at most (of 50 rows).
_ABOVE_COLUMNS = 1.5


class CoarseFeaturesWarning(UserWarning):
    """Half-precision rows whose rounding shows in the nearest distances."""


@dataclass(frozen=True)
class RatioFit:
    """Fit of an estimator to the distances of n rows."""

    value: float
    influence: Float[Tensor, " n"]  # of every row on the value, in units of dimension
    law: Float[Tensor, " n"]  # distribution function of the fitted law at every row's statistic
    bias: float = 1.0  # factor by which the expectation of the value exceeds the dimension


def ratio_estimate(
    geometry: Geometry,
    near: int,
    far: int,
    fit: Callable[[Float[Tensor, "n k"]], RatioFit],
    fewest: int = MIN_DISTINCT,
) -> Estimate:
    """Return the estimate from distances of orders up to ``far``, or the reason for none.

    ``fit`` takes the (n, far) distances of the rows that carry a ratio: the rows whose neighbours
    ``near`` and ``far`` are not equally far. There is a reason instead where fewer than ``fewest``
    or half of the rows carry one, and where the value is more than the rows can have.
    """
    estimate = geometry.estimate_of_order(far)
    if estimate.reason is not None:
        return estimate
    nearest = geometry.neighbors(far)
    tied = _ties(geometry, near, far)
    n_distinct, n_ties = len(tied), int(tied.sum())
    estimate = replace(estimate, n_used=n_distinct - n_ties, n_ties=n_ties)
    if 2 * n_ties > n_distinct:
        return replace(
            estimate,
            reason=f"{n_ties} of {n_distinct} distinct rows tie: their neighbours {near} and {far}"
            f" are equally far, to within the rounding of {geometry.dtype} rows",
        )
    if estimate.n_used < fewest:
        return replace(
            estimate,
            reason=f"expected at least {fewest} rows whose neighbours {near} and {far} are not"
            f" equally far, got {estimate.n_used} ({n_ties} of {n_distinct} distinct rows tie)",
        )
    fitted = fit(nearest.distances[~tied])
    std_error = shared_neighbor_std_error(fitted.influence, renumber(nearest.indices, ~tied))
    reason = _beyond_the_columns(geometry, fitted, std_error, estimate.n_used)
    if reason is not None:
        return replace(estimate, reason=reason)
    return estimate.with_value(
        fitted.value,
        std_error,
        goodness=ks_distance(fitted.law),
        note=_ties_note(geometry, n_ties / n_distinct),
        influence=_influence_of_samples(geometry, fitted.influence, nearest.indices, ~tied),
    )


def _influence_of_samples(
    geometry: Geometry,
    influence: Float[Tensor, " n"],
    neighbors: Int[Tensor, "m k"],
    used: Bool[Tensor, " m"],
) -> Influence:
    """Return the influence of every row given: 0 of repeated and tied ones."""
    every = torch.arange(geometry.n_samples, device="cpu")
    distinct = geometry.distinct.cpu() if geometry.n_duplicates else every
    shares = torch.zeros(geometry.n_samples, dtype=torch.float64, device="cpu")
    shares[distinct[used]] = (influence - influence.mean()) / len(influence)
    numbers = torch.full((geometry.n_samples, neighbors.shape[1]), -1, device="cpu")
    numbers[distinct] = distinct[neighbors]
    return Influence(shares, numbers)


def _ties(geometry: Geometry, near: int, far: int) -> Bool[Tensor, " m"]:
    """Return which distinct rows have two distances equal, or apart by broken ties alone."""
    distances = geometry.neighbors(far).distances[:, [near - 1, far - 1]]
    few = max(_NEGLIGIBLE_SHARE * len(distances), _CHANCE_ROWS)
    excess = _excess(distances)
    close = ~(excess >= 2 * geometry.resolution_bound(near))
    if int(close.sum()) <= few:
        return ~(excess > 0)
    index = close.nonzero()[:, 0]
    exact, resolution = geometry.resolution(near, far, index)
    excess[index] = _excess(exact)
    unresolved = ~(excess[index] >= resolution)
    next_to_them = ~unresolved & (excess[index] < 2 * resolution)
    tied = ~(excess > 0)
    if int(unresolved.sum()) > _MORE_THAN_SMOOTH * int(next_to_them.sum()) + few:
        tied[index[unresolved]] = True
    return tied


def _excess(distances: Float[Tensor, "m 2"]) -> Float[Tensor, " m"]:
    """Return the relative excess of the further distance; 0 where squares of both vanish."""
    near, far = distances.T
    return torch.where(near > 0, far / near - 1, 0.0)


def _ties_note(geometry: Geometry, tied_share: float) -> str | None:
    """Return the note on ties, if any; warn where half precision is too coarse."""
    if tied_share <= _TIES_WORTH_A_NOTE:
        return None
    if geometry.x.element_size() > 2:
        return (
            f"{tied_share:.1%} of the nearest distances tie and are left out: features on a grid,"
            f" or equal to within the rounding of {geometry.dtype}"
        )
    note = (
        f"{tied_share:.1%} of the nearest distances tie: {geometry.dtype} features are too coarse"
        " here, and the dimension is that of their rounding"
    )
    warnings.warn(note, CoarseFeaturesWarning, stacklevel=4)
    return note


def _beyond_the_columns(
    geometry: Geometry, fitted: RatioFit, std_error: float, n_used: int
) -> str | None:
    """Return the reason where a value is more than the rows can have."""
    value = fitted.value
    most = min(geometry.ambient_dimension, geometry.n_samples)
    # At least that of independent rows: of some ten rows the other is NaN, or small by chance.
    error = value / math.sqrt(n_used)
    error = error if math.isnan(std_error) else max(error, std_error)
    if value - 2 * error <= _ABOVE_COLUMNS * fitted.bias * most:
        return None
    limit = "columns" if most == geometry.ambient_dimension else "rows"
    return (
        f"expected a dimension of at most {most}, the {limit}, got {value:.4g} ± {error:.2g}: the"
        " nearest distances of most rows hardly differ, or by rounding alone"
    )
