"""Linear dimensions: number of principal components, participation ratio, effective rank."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_id.functional.eigenvalues import LinAlgError
from lightning_id.functional.estimate import Estimate
from lightning_id.functional.geometry import Geometry, geometry_of

CERTIFIED = "certified"  # in the column `computation` of a history


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the covariance of n rows of d columns.

    Attributes:
        eigenvalues: (min(n, d),) float64 on the CPU, largest first; the smallest may be negative by
            rounding.
        noise: Noise floor: eigenvalues up to this size are rounding.
    """

    eigenvalues: Float[Tensor, " r"]
    noise: float

    def components(self, explained_variance: float) -> int:
        """Return the smallest number of components that hold a share of the variance.

        Args:
            explained_variance: The share, in (0, 1]; 1 counts eigenvalues above the noise floor.

        Returns:
            The number, counted from 1; 0 if there is no variance.

        Raises:
            ValueError: If the share is out of its range.
        """
        if not 0 < explained_variance <= 1:
            raise ValueError(
                f"`explained_variance`: expected a share in (0, 1], got {explained_variance}"
            )
        rank = int((self.eigenvalues > self.noise).sum())
        if explained_variance == 1 or rank == 0:
            return rank
        held = self.eigenvalues.cumsum(0)
        count = int(torch.searchsorted(held[:rank], explained_variance * held[-1])) + 1
        return min(count, rank)


def pca_spectrum(x: Tensor | Geometry, standardize: bool = False) -> Spectrum:
    """Return the eigenvalues of the covariance (or correlation) of the rows of ``x``.

    Args:
        x: (n, d) rows, n >= 3, or a `Geometry` made from them.
        standardize: Scale every column to unit variance first; constant columns stay zero.

    Returns:
        The spectrum; `Spectrum.components` counts for any share from one decomposition.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor, has fewer than three rows, or holds
            NaN or infinite values.
        torch.linalg.LinAlgError: If no solver converges, in float64 either.

    Example:
        >>> import torch
        >>> x = torch.randn(100, 30, generator=torch.Generator().manual_seed(0))
        >>> spectrum = pca_spectrum(x)
        >>> [spectrum.components(share) for share in (0.9, 0.95, 0.99)]
        [22, 25, 29]
    """
    geometry = geometry_of(x)
    eigenvalues = geometry.spectrum(standardize)
    noise = rounding_noise(eigenvalues, geometry.n_samples, geometry.columns.dtype)
    return Spectrum(eigenvalues, noise)


def spectrum_or_reason(geometry: Geometry, standardize: bool = False) -> Spectrum | str:
    """Return the spectrum of rows, or the reason why there is none."""
    if geometry.reason is not None:
        return geometry.reason
    try:
        return pca_spectrum(geometry, standardize)
    except LinAlgError as error:
        return f"the eigenvalues of the covariance did not converge, in float64 either: {error}"


def rounding_noise(
    eigenvalues: Float[Tensor, " r"], n_samples: int, dtype: torch.dtype = torch.float32
) -> float:
    """Return the noise floor of eigenvalues of a covariance: sqrt(n) roundings of the largest.

    Not max(n, d) roundings, as for the rank of a matrix: of 150 000 columns that is 2 % of the
    largest eigenvalue, and photographs keep nine tenths of their components below. Measured: at
    most 3 roundings over 20 to 5000 rows of 10 to 400 000 columns; these are at least 4.
    """
    return math.sqrt(n_samples) * torch.finfo(dtype).eps * float(eigenvalues[0])


def pca_dimension(
    x: Tensor | Geometry, explained_variance: float = 0.9, standardize: bool = False
) -> Estimate:
    """Return how many principal components hold a share of the variance of the rows of ``x``.

    Counted from 1; 0 for a constant cloud. (The paper's code printed the 0-based index of the last
    component, which is one less.) Every row counts, repeated ones too. The count cannot exceed n -
    1 and grows with n: compare it only between clouds of equal n. It has no error bar.

    Source: Ansuini, Laio, Macke, Zoccolan, NeurIPS 2019 (there with ``standardize=True``).

    Args:
        x: (n, d) rows, n >= 3, of any floating dtype on any device, or a `Geometry` made from them.
        explained_variance: The share, in (0, 1]. At 1 the components above the noise floor are
            counted: eigenvalues larger than sqrt(n) roundings of the largest.
        standardize: Scale every column to unit variance first; constant columns stay zero.

    Returns:
        The count. NaN with a reason for fewer than three rows, NaN or infinite values, or
        eigenvalues that do not converge.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor, or the share is out of its range.

    Example:
        >>> import torch
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) @ torch.eye(3, 50)
        >>> float(pca_dimension(x))
        3.0
    """
    geometry = geometry_of(x)
    if geometry.reason is None:
        noise = rounding_noise(
            torch.ones(1, device="cpu"), geometry.n_samples, geometry.columns.dtype
        )
        certified = geometry.leading_count(explained_variance, standardize, noise)
        if certified is not None:
            return replace(_linear(geometry, certified), computation=CERTIFIED)
    spectrum = spectrum_or_reason(geometry, standardize)
    if isinstance(spectrum, str):
        return _linear(geometry, math.nan, spectrum)
    count = spectrum.components(explained_variance)
    if geometry.leading is not None:
        geometry.leading.counts[explained_variance, standardize] = count
    return _linear(geometry, count)


def participation_ratio(x: Tensor | Geometry, standardize: bool = False) -> Estimate:
    r"""Return the participation ratio :math:`(\sum \lambda)^2 / \sum \lambda^2` of the covariance.

    The number of equal eigenvalues over which the variance would be spread as evenly. Computed
    without eigenvalues, as the squared trace of the Gram matrix over its squared norm.

    Source: Litwin-Kumar, Harris, Axel, Sompolinsky, Abbott, Neuron 93, 1153 (2017).

    Args:
        x: (n, d) rows, n >= 3, of any floating dtype on any device, or a `Geometry` made from them.
        standardize: Scale every column to unit variance first; constant columns stay zero.

    Returns:
        The ratio, between 1 and min(n - 1, d); 0 for a constant cloud. NaN with a reason for fewer
        than three rows, NaN or infinite values.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> float(participation_ratio(x))
        2.0
    """
    geometry = geometry_of(x)
    if geometry.reason is not None:
        return _linear(geometry, math.nan, geometry.reason)
    trace, square = geometry.moments(standardize)
    return _linear(geometry, trace**2 / square if square > 0 else 0.0)


def effective_rank(x: Tensor | Geometry, standardize: bool = False) -> Estimate:
    r"""Return the effective rank :math:`\exp(-\sum p \log p)` of the centred rows.

    p are the singular values divided by their sum; values below the noise floor are left out.

    Source: Roy, Vetterli, EUSIPCO 2007.

    Args:
        x: (n, d) rows, n >= 3, of any floating dtype on any device, or a `Geometry` made from them.
        standardize: Scale every column to unit variance first; constant columns stay zero.

    Returns:
        The rank, between 1 and min(n - 1, d); 0 for a constant cloud. NaN with a reason for fewer
        than three rows, NaN or infinite values.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(float(effective_rank(x)), 6)
        2.0
    """
    geometry = geometry_of(x)
    spectrum = spectrum_or_reason(geometry, standardize)
    if isinstance(spectrum, str):
        return _linear(geometry, math.nan, spectrum)
    singular = spectrum.eigenvalues[spectrum.eigenvalues > spectrum.noise].sqrt()
    share = singular / singular.sum()
    entropy = float(-(share * share.log()).sum())
    return _linear(geometry, math.exp(entropy) if len(share) else 0.0)


def _linear(geometry: Geometry, value: float | int, reason: str | None = None) -> Estimate:
    return replace(
        geometry.estimate(distinct=False),
        value=float(value),
        n_used=geometry.n_samples if reason is None else 0,
        reason=reason,
    )
