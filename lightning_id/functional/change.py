"""The difference of two estimates on the same samples, with its paired error bar."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_id.functional.estimate import (
    Estimate,
    normal_interval,
    shared_neighbor_std_error,
)
from lightning_id.functional.geometry import Geometry, geometry_of
from lightning_id.functional.registry import Estimator, get_estimator


@dataclass(frozen=True)
class Change:
    """A difference of two estimates with its error bar, or the reason why there is none.

    Attributes:
        value: Second estimate minus first; NaN where one of them is missing.
        std_error: Standard error of the difference on the same samples; NaN where there is none.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        reason: Why a number is NaN; None where there are both.
    """

    value: float = math.nan
    std_error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str | None = None

    def __float__(self) -> float:
        return self.value

    @property
    def is_significant(self) -> bool:
        """Whether the 95 % interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def change(
    x: Tensor | Geometry, y: Tensor | Geometry, estimator: str | Estimator = "twonn"
) -> Change:
    r"""Return the change of a dimension from ``x`` to ``y``: the same samples in two states.

    Two states of one layer, or two layers of one network. The errors of the two estimates go
    together, because the samples are the same: the error of their difference is up to twelve times
    smaller than two separate error bars suggest. With the centred influences :math:`IF_i` and
    :math:`IF'_i` of sample i on the two estimates, and :math:`K_{ij} = 1` if i = j or one is among
    the nearest neighbours of the other in *either* state,

    .. math:: se^2 = \frac{1}{N^2} \sum_{ij} K_{ij} \, (IF' - IF)_i \, (IF' - IF)_j .

    A row that repeats another one, or ties, has influence 0 in that state alone. The bar is for
    fresh samples in the same two states, and holds no differences between trainings from other
    seeds. It is calibrated: see the page on it in the documentation.

    Args:
        x: (n, d) rows of any floating dtype on any device, or a `Geometry` made from them.
        y: (n, e) rows of the same samples in the same order; the widths may differ.
        estimator: A registered name or a function of a `Geometry`, one that uses ratios of nearest
            distances: TwoNN, Gride and MLE, with any arguments.

    Returns:
        Value of ``y`` minus value of ``x``, standard error, 95 % interval; exactly 0 with error 0
        for identical states. NaN with a reason where one of the two has no estimate, or the
        estimator has no error bar.

    Raises:
        ValueError: If ``x`` or ``y`` is no dense floating (n, d) tensor, or there is no such
            estimator.

    Example:
        >>> import torch
        >>> from lightning_id import manifolds
        >>> from lightning_id.functional import change, twonn_dimension
        >>> x = manifolds.gaussian(1000, 5, ambient=20)
        >>> y = x + 0.03 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        >>> moved = change(x, y)
        >>> print(f"{moved.value:+.2f} +- {moved.std_error:.2f}, {moved.is_significant}")
        +0.38 +- 0.10, True
        >>> print(f"{twonn_dimension(x).std_error:.2f} +- of each")
        0.22 +- of each
    """
    function = get_estimator(estimator) if isinstance(estimator, str) else estimator
    return change_of_estimates(function(geometry_of(x)), function(geometry_of(y)))


def change_of_estimates(first: Estimate, second: Estimate) -> Change:
    """Return the change from one estimate to another of the same samples, as `change` does.

    Args:
        first: Estimate of the first state.
        second: Estimate of the second state, by the same estimator.

    Returns:
        The change.

    Example:
        >>> from lightning_id import manifolds
        >>> from lightning_id.functional import change_of_estimates, pca_dimension, twonn_dimension
        >>> x = manifolds.gaussian(500, 5, ambient=20)
        >>> change_of_estimates(twonn_dimension(x), twonn_dimension(x))
        Change(value=0.0, std_error=0.0, low=0.0, high=0.0, reason=None)
        >>> change_of_estimates(pca_dimension(x), pca_dimension(x)).reason
        'the estimator has no error bar, and so none for a difference'
    """
    for state, estimate in (("first", first), ("second", second)):
        if estimate.reason is not None:
            return Change(reason=f"no estimate of the {state} state: {estimate.reason}")
    value = second.value - first.value
    before, after = first.influence, second.influence
    if before is None or after is None:
        reason = "the estimator has no error bar, and so none for a difference"
        return Change(value, reason=reason)
    if len(before.shares) != len(after.shares):
        return Change(
            reason="expected the same samples in both states, got"
            f" {len(before.shares)} and {len(after.shares)} rows"
        )
    difference = after.shares - before.shares
    neighbors = torch.cat((before.neighbors, after.neighbors), dim=1)
    std_error = 0.0
    if bool(difference.any()):
        std_error = shared_neighbor_std_error(len(difference) * difference, neighbors)
    if math.isnan(std_error):
        return Change(value, reason="no error bar: the sum of its terms is not positive")
    return Change(value, std_error, *normal_interval(value, std_error))
