"""Eigenvalues of a second moment, also where a solver fails, and at a later time."""

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

LinAlgError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]


def eigenvalues(
    moment: Float[Tensor, "r r"], alive: Int[Tensor, " a"] | None = None
) -> Float[Tensor, " r"]:
    """Return all eigenvalues of a symmetric matrix, largest first; ``alive`` numbers non-zero rows.

    LAPACK's float32 solver fails on covariances of which most rows are zero (90 % of 1024 columns
    without variance): zero rows are left out, and a failure is retried in float64.
    """
    part = moment if alive is None else moment[alive[:, None], alive]
    values: Tensor
    try:
        values = torch.linalg.eigvalsh(part)
    except LinAlgError:
        values = torch.linalg.eigvalsh(part.double())
    if alive is None:
        return values.flip(0)
    zeros = values.new_zeros(len(moment) - len(alive))
    return torch.cat((values, zeros)).sort(descending=True).values


def covariance_spectrum(
    moment: Float[Tensor, "r r"], alive: Int[Tensor, " a"] | None, n_samples: int
) -> Float[Tensor, " r"]:
    """Return the eigenvalues of the covariance of so many rows, in float64 on the CPU."""
    return (eigenvalues(moment, alive) / (n_samples - 1)).double().cpu()


class LaterSpectrum:
    """Eigenvalues of a covariance that are computed when first read; holds the r x r matrix."""

    def __init__(
        self, moment: Float[Tensor, "r r"], alive: Int[Tensor, " a"] | None, n_samples: int
    ) -> None:
        self._arguments = moment.cpu(), None if alive is None else alive.cpu(), n_samples

    @cached_property
    def eigenvalues(self) -> Float[Tensor, " r"]:
        """The eigenvalues; the matrix is freed."""
        values = covariance_spectrum(*self._arguments)
        del self._arguments
        return values
