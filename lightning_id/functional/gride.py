"""Gride: the intrinsic dimension from the ratio of any two nearest distances."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_id.functional.estimate import Estimate
from lightning_id.functional.geometry import Geometry, geometry_of
from lightning_id.functional.ratios import RatioFit, ratio_estimate


def gride_dimension(x: Tensor | Geometry, n1: int = 1, n2: int = 2) -> Estimate:
    r"""Return the Gride intrinsic dimension of the rows of ``x``, from the orders n1 < n2.

    Where the density is constant on the scale of neighbour n2, :math:`\mu = r_{n2} / r_{n1}` has
    the density :math:`d (\mu^d - 1)^{m} \mu^{-(n_2 - 1) d - 1} / B(n_2 - n_1, n_1)` with
    :math:`m = n_2 - n_1 - 1`. The estimate maximises its likelihood, which is concave; for
    :math:`n_2 = n_1 + 1` that has a closed form, and the unbiased
    :math:`(N - 1) / (n_1 \sum \log \mu)` is returned. So orders (1, 2) are the TwoNN maximum
    likelihood without discarding.

    Larger orders measure on a larger scale: noise of small amplitude inflates (1, 2) but not (16,
    32), while curvature and borders do the opposite. `scale_profile` goes through the scales.

    Equal rows count as one point. Rows whose two distances tie, or differ only by the rounding of
    the rows, are left out and counted. The error bar allows for shared neighbours (see
    `shared_neighbor_std_error`). On spheres, balls and Gaussians of 1000 rows it is within 7 % of
    the truth up to orders (4, 8), and too large above: 5 to 15 % at (8, 16), 15 to 40 % at (32,
    64). On a mixture of very different dimensions it is twice too large. Where n2 is near a quarter
    of the rows it may be NaN.

    Source: Denti, Doimo, Laio, Mira, Scientific Reports 12, 20005 (2022).

    Args:
        x: (n, d) rows, n > n2, of any floating dtype on any device, or a `Geometry` made from them.
        n1: Order of the nearer neighbour, from 1.
        n2: Order of the further one, above n1.

    Returns:
        The dimension (not rounded), standard error, 95 % interval, counts, and the
        Kolmogorov-Smirnov distance of the ratios from the fitted law. NaN with a reason where there
        is no estimate: not more than n2 distinct rows, more than half of them tied, a value beyond
        the columns or rows by more than its error, NaN or infinite values.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor, or not 1 <= n1 < n2.

    Example:
        >>> import torch
        >>> x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
        >>> estimate = gride_dimension(x, n1=2, n2=4)
        >>> print(f"{estimate.value:.2f} +- {estimate.std_error:.2f}")
        5.08 +- 0.14
    """
    if not 1 <= n1 < n2:
        raise ValueError(f"`n1`, `n2`: expected 1 <= n1 < n2, got {n1} and {n2}")

    def fit(distances: Float[Tensor, "n k"]) -> RatioFit:
        log_mu = torch.log(distances[:, n2 - 1] / distances[:, n1 - 1])
        value = _maximum_likelihood(log_mu, n1, n2)
        score, information = _derivatives(log_mu, value, n1, n2)
        return RatioFit(value, score / information.mean(), law=_law(log_mu, value, n1, n2))

    return ratio_estimate(geometry_of(x), n1, n2, fit)


def _maximum_likelihood(log_mu: Float[Tensor, " n"], n1: int, n2: int) -> float:
    """Return the zero of the score, by bisection."""
    n, total = len(log_mu), float(log_mu.sum())
    if n2 == n1 + 1:
        return (n - 1) / (n1 * total)
    # max(l, 1 / d) <= l / (1 - exp(-d l)) <= l + 1 / d in the score gives both ends.
    low, high = n * (n2 - n1) / ((n2 - 1) * total), n * (n2 - n1) / (n1 * total)
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        score, _ = _derivatives(log_mu, middle, n1, n2)
        low, high = (middle, high) if float(score.sum()) > 0 else (low, middle)
    return (low + high) / 2


def _derivatives(
    log_mu: Float[Tensor, " n"], d: float, n1: int, n2: int
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return first and minus second derivative of the log-likelihood of every ratio by d."""
    m = n2 - n1 - 1
    decay = torch.exp(-d * log_mu)
    pull = log_mu / -torch.expm1(-d * log_mu)
    return 1 / d + m * pull - (n2 - 1) * log_mu, 1 / d**2 + m * pull.square() * decay


def _law(log_mu: Float[Tensor, " n"], d: float, n1: int, n2: int) -> Float[Tensor, " n"]:
    """Return the distribution function: mu^-d is Beta(n1, n2 - n1), a binomial sum."""
    u = torch.exp(-d * log_mu)
    others = n2 - 1
    terms = [math.comb(others, j) * u**j * (1 - u) ** (others - j) for j in range(n1)]
    return torch.stack(terms).sum(0)
