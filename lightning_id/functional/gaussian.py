"""TwoNN of Gaussian rows of the same covariance: the null model of a linear representation."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_id.functional.estimate import Estimate
from lightning_id.functional.geometry import Geometry, geometry_of
from lightning_id.functional.pca import Spectrum, spectrum_or_reason
from lightning_id.functional.twonn import twonn_dimension


def gaussian_twonn_dimension(x: Tensor | Geometry, seed: int = 0) -> Estimate:
    r"""Return the TwoNN dimension of Gaussian rows that have the covariance of ``x``.

    The null model of a linear representation. With eigenvalues :math:`\lambda_k` of the covariance,
    as many rows as ``x`` has are drawn,

    .. math:: y_{ik} = \sqrt{\lambda_k} \, z_{ik}, \qquad z_{ik} \sim N(0, 1) ,

    and their `twonn_dimension` is returned. Where ``x`` fills a linear subspace as a Gaussian does,
    the two agree within their errors. Where this one is far higher, the rows of ``x`` lie on a
    curved surface that no second moment shows, or are far from Gaussian. It is a lower bound above
    about 20 like every TwoNN dimension, and depends on the number of rows: compare it only with the
    TwoNN of the same rows.

    The paper's code took the square roots of the *singular values* of the rows for the standard
    deviations. That lifts the small ones: on its published spectrum (VGG-16, 2000 rows) its recipe
    gives about 200, this function about 100; the TwoNN of the layer itself is 17.

    Source: Ansuini, Laio, Macke, Zoccolan, NeurIPS 2019 (figure 5 B).

    Args:
        x: (n, d) rows, n >= 3, of any floating dtype on any device, or a `Geometry` made from them.
            Every row counts in the covariance, repeated ones too.
        seed: Seed of the private generator that draws the cloud.

    Returns:
        The estimate of the Gaussian cloud, its error and its counts; ``dtype`` is that of ``x``.
        NaN with a reason for fewer than three rows, NaN or infinite values, or a constant cloud.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor.

    Example:
        >>> import torch
        >>> from lightning_id import manifolds
        >>> from lightning_id.functional import twonn_dimension
        >>> def both(x):
        ...     print(f"{float(twonn_dimension(x)):.0f} {float(gaussian_twonn_dimension(x)):.0f}")
        >>> both(manifolds.gaussian(1000, 8, ambient=500, seed=1))
        8 8
        >>> t = 6.28 * torch.rand(1000, 1, generator=torch.Generator().manual_seed(1))
        >>> harmonics = t * torch.arange(1, 21)
        >>> both(torch.cat((harmonics.cos(), harmonics.sin()), dim=1))  # a closed curve
        1 27
    """
    geometry = geometry_of(x)
    spectrum = spectrum_or_reason(geometry)
    if isinstance(spectrum, str):
        return replace(geometry.estimate(distinct=False), reason=spectrum)
    estimate = twonn_dimension(_gaussian_rows(spectrum, geometry.n_samples, seed))
    return replace(
        estimate,
        dtype=geometry.dtype,
        backend=geometry.backend,
        influence=None,  # of other rows
    )


def _gaussian_rows(spectrum: Spectrum, n_samples: int, seed: int) -> Float[Tensor, "n r"]:
    """Draw rows of the same covariance up to a rotation and a factor, which TwoNN does not see."""
    # Eigenvalues below the noise floor would decide which rows are neighbours on a surface of few
    # dimensions: they are left out. At least one stays: of a constant cloud all are 0 or rounding.
    held = spectrum.eigenvalues[: max(spectrum.components(1.0), 1)].clamp_min(0)
    # Relative to the largest: float32 then holds the range of float64 rows.
    largest = held[0].clamp_min(torch.finfo(torch.float64).tiny)
    generator = torch.Generator().manual_seed(seed)
    # On the CPU like the spectrum: all ranks draw the same rows. Direction by direction, the
    # largest first: one more above the noise floor, by another LAPACK, leaves the others the same.
    drawn = torch.randn(
        len(held), n_samples, generator=generator, dtype=torch.float32, device="cpu"
    )
    return drawn.T * (held / largest).sqrt().float()
