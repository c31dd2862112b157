"""An estimate with its error bar and counts, and the statistics that estimators share."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NORMAL_975 = 1.959963984540054  # 97.5 % point of the normal law: half the width of a 95 % interval


@dataclass(frozen=True)
class Influence:
    """Share of every sample in the error of an estimate, for the error of a difference.

    Attributes:
        shares: (n,) float64 on the CPU, one for each row given, in units of dimension; they add up
            to 0. The value differs from its expectation by about the sum of the shares that fresh
            samples would have. 0 for rows that did not enter the fit.
        neighbors: (n, k) numbers of the nearest rows of each row, whose errors are correlated; -1
            where there is none.
    """

    shares: Float[Tensor, " n"]
    neighbors: Int[Tensor, "n k"]


@dataclass(frozen=True)
class Estimate:
    """An intrinsic dimension with its error bar, or the reason why there is none.

    Attributes:
        value: The dimension, not rounded; NaN where there is no estimate.
        std_error: Standard error of ``value``; NaN where the estimator has none.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        n_samples: Rows given.
        n_used: Rows that entered the fit.
        n_duplicates: Rows left out because they equal an earlier row; 0 for the estimators that use
            every row (PCA and its relatives).
        n_ties: Distinct rows left out because their nearest distances tie, or differ by the
            rounding of the rows alone, so that they carry no ratio.
        goodness: Kolmogorov-Smirnov distance between the data and the fitted law, in [0, 1];
            smaller is better. NaN for estimators without a law.
        dtype: The dtype the rows came in, for example ``"float32"``.
        backend: Name of the search for neighbours.
        reason: Why ``value`` is NaN; None where there is a value.
        note: Caveat about a valid value; None if there is none.
        computation: ``"kept"`` where the rows did not change since the last measurement, whose
            estimate this is; ``"certified"`` where a PCA count was computed from the leading
            eigenvalues, with bounds on the others that fail at most once in 10^15 draws of random
            vectors; else None.
        influence: Share of every row in the error, for `lightning_id.functional.change`; None for
            estimators without an error bar. Not in `to_dict`.
    """

    value: float = math.nan
    std_error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n_samples: int = 0
    n_used: int = 0
    n_duplicates: int = 0
    n_ties: int = 0
    goodness: float = math.nan
    dtype: str = ""
    backend: str = ""
    reason: str | None = None
    note: str | None = None
    computation: str | None = None
    influence: Influence | None = field(default=None, repr=False, compare=False)

    def __float__(self) -> float:
        return self.value

    def with_value(self, value: float, std_error: float, **fields: Any) -> "Estimate":
        """Return the estimate with a value, its error, its 95 % interval and other fields."""
        low, high = normal_interval(value, std_error)
        return replace(self, value=value, std_error=std_error, low=low, high=high, **fields)

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Return the fields that a record holds, as plain Python values.

        Returns:
            A dictionary that ``json``, ``csv`` and ``torch.load(weights_only=True)`` all read.
        """
        return {name: getattr(self, name) for name in _RECORDED}


_RECORDED = tuple(each.name for each in fields(Estimate) if each.name != "influence")


def normal_interval(value: float, std_error: float) -> tuple[float, float]:
    """Return the ends of the 95 % interval ``value -+ 1.96 std_error``; NaN if the error is."""
    return value - NORMAL_975 * std_error, value + NORMAL_975 * std_error


def shared_neighbor_std_error(
    influence: Float[Tensor, " n"], neighbors: Int[Tensor, "n k"]
) -> float:
    r"""Return the standard error of a mean whose terms share neighbours.

    The distances of row i and row j are correlated when one row is a neighbour of the other, so the
    usual :math:`\sum_i IF_i^2 / N^2` is too small (by 10 to 30 % in the error for TwoNN). With
    :math:`K_{ij} = 1` if i = j or one is among the k nearest of the other,

    .. math:: se^2 = \frac{1}{N^2} \sum_{ij} K_{ij} \, IF_i \, IF_j .

    Args:
        influence: Influence of each row on the estimate; it is centred here. Unit: dimension.
        neighbors: Row numbers of the k nearest neighbours of each row; -1 for a neighbour that is
            not among the rows of ``influence``.

    Returns:
        The standard error, in units of dimension; NaN where the sum is not positive (some ten
        rows).
    """
    n, k = neighbors.shape
    centred = influence - influence.mean()
    ends = torch.stack(
        (torch.arange(n, device=neighbors.device).repeat_interleave(k), neighbors.flatten())
    )
    ends = ends[:, ends[1] >= 0].sort(dim=0).values
    pairs = torch.unique(ends[0] * n + ends[1])  # a mutual pair is one pair
    shared = (centred[pairs // n] * centred[pairs % n]).sum()
    variance = float(centred.square().sum() + 2 * shared) / n**2
    return math.sqrt(variance) if variance > 0 else math.nan


def renumber(neighbors: Int[Tensor, "m k"], used: Bool[Tensor, " m"]) -> Int[Tensor, "n k"]:
    """Return the neighbours of the rows used, numbered among these; -1 for one not used."""
    number = torch.where(used, used.cumsum(0) - 1, -1)
    return number[neighbors[used]]


def ks_distance(law: Float[Tensor, " n"]) -> float:
    r"""Return the Kolmogorov-Smirnov distance of n observations from a law, by its values at them.

    Above about :math:`1.2 / \sqrt n` (5 % level on neighbour ratios) the fitted law does not hold:
    the points are not of one dimension on the scale of their neighbours.
    """
    n = len(law)
    law = law.sort().values
    above = torch.arange(1, n + 1, dtype=torch.float64, device=law.device) / n - law
    return float(torch.maximum(above, 1 / n - above).max())
