"""TwoNN: the intrinsic dimension from the two nearest neighbours of every point."""

import math
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_id.functional.estimate import Estimate
from lightning_id.functional.geometry import MIN_DISTINCT, Geometry, geometry_of
from lightning_id.functional.law import LAW_NOTE, is_law_broken
from lightning_id.functional.ratios import RatioFit, ratio_estimate


def twonn_dimension(
    x: Tensor | Geometry,
    method: Literal["linear", "mle"] = "linear",
    discard_fraction: float = 0.1,
) -> Estimate:
    r"""Return the TwoNN intrinsic dimension of the rows of ``x``.

    Where the density is constant on the scale of the second neighbour, :math:`\mu = r_2 / r_1`
    follows :math:`F(\mu) = 1 - \mu^{-d}`, whatever the density is. With :math:`l = \log \mu`
    sorted, N usable points and r = floor(N (1 - ``discard_fraction``)):

    - ``"linear"``, the fit of Ansuini et al. (2019): least squares through the origin of
      :math:`-\log(1 - F_i)` on :math:`l_{(i)}` over the r smallest, :math:`F_i = i / N`;
    - ``"mle"``: the maximum likelihood of the sample censored at :math:`l_{(r)}`,
      :math:`d = (r - 1) / (\sum_{i \le r} l_{(i)} + (N - r) l_{(r)})`; with ``discard_fraction=0``
      this is the unbiased :math:`(N - 1) / \sum l`.

    Equal rows count as one point. Rows whose two nearest distances tie, or differ only by the
    rounding of the rows, are left out and counted, as in the paper. The error bar allows for shared
    neighbours; it is within 7 % of the truth on spheres, balls and Gaussians, and too large (1.25
    to 1.36 times) on mixtures of very different dimensions. The interval is about the mean of the
    estimator: **above about 20 the estimate is a lower bound** of the true dimension, because no
    sample of practical size is dense there.

    Source: Facco, d'Errico, Rodriguez, Laio, Scientific Reports 7, 12140 (2017); Ansuini, Laio,
    Macke, Zoccolan, NeurIPS 2019.

    Args:
        x: (n, d) rows, n >= 3, of any floating dtype on any device, or a `Geometry` made from them.
        method: ``"linear"`` or ``"mle"``.
        discard_fraction: Share of the largest ratios left out of the fit (censored in the MLE), in
            [0, 1).

    Returns:
        The dimension (not rounded), standard error, 95 % interval, counts, and the
        Kolmogorov-Smirnov distance of the N ratios from the fitted law, with a note where it is
        above its 1 % point (see `lightning_id.functional.law.is_law_broken`). NaN with a reason
        where there is no estimate: fewer than three distinct rows, more than half of them tied, a
        value beyond the columns or rows by more than its error, NaN or infinite values.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor, or an argument is out of its range.

    Example:
        >>> import torch
        >>> x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
        >>> estimate = twonn_dimension(x)
        >>> print(f"{estimate.value:.2f} +- {estimate.std_error:.2f}")
        5.25 +- 0.21
    """
    if method not in ("linear", "mle"):
        raise ValueError(f"`method`: expected 'linear' or 'mle', got {method!r}")
    if not 0 <= discard_fraction < 1:
        raise ValueError(f"`discard_fraction`: expected a share in [0, 1), got {discard_fraction}")
    # The fit needs two ratios, and F_N = 1 of the linear one has no finite logarithm. 1e-9: 2 / 0.1
    # is 20.
    fewest = max(MIN_DISTINCT, math.ceil(2 / (1 - discard_fraction) - 1e-9))

    def fit(distances: Float[Tensor, "n 2"]) -> RatioFit:
        log_mu = torch.log(distances[:, 1] / distances[:, 0])
        n = len(log_mu)
        n_fitted = math.floor(n * (1 - discard_fraction) + 1e-9)  # 1e-9: floor(0.9 * 10) is 9
        if method == "linear":
            value, influence = _linear_fit(log_mu, min(n_fitted, n - 1))
        else:
            value, influence = _censored_mle(log_mu, n_fitted)
        return RatioFit(value, influence, law=-torch.expm1(-value * log_mu))

    estimate = ratio_estimate(geometry_of(x), 1, 2, fit, fewest)
    if not is_law_broken(estimate.goodness, estimate.n_used):
        return estimate
    return replace(estimate, note="; ".join(filter(None, (estimate.note, LAW_NOTE))))


def _linear_fit(log_mu: Float[Tensor, " n"], r: int) -> tuple[float, Float[Tensor, " n"]]:
    """Return slope and influence of the least-squares line through the origin on the r smallest."""
    n = len(log_mu)
    ordered = log_mu.sort().values[:r]
    y = -torch.log1p(-torch.arange(1, r + 1, dtype=torch.float64, device=log_mu.device) / n)
    square = ordered.square().sum()
    d = float((ordered * y).sum() / square)
    winsorized = log_mu.clamp_max(ordered[-1]).square()
    return d, -d / (2 * square / n) * (winsorized - winsorized.mean())


def _censored_mle(log_mu: Float[Tensor, " n"], r: int) -> tuple[float, Float[Tensor, " n"]]:
    """Return the MLE of an exponential rate, censored after the r smallest, and its influence."""
    n = len(log_mu)
    largest = log_mu.sort().values[r - 1]
    winsorized = log_mu.clamp_max(largest)
    d = float((r - 1) / winsorized.sum())
    return d, -(d**2) * n / r * (winsorized - (log_mu <= largest) / d)
