"""Eigenvalues of a second moment, where solvers fail too."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

LinAlgError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]


def eigenvalues(
    moment: Float[Tensor, "r r"], alive: Int[Tensor, " a"] | None = None
) -> Float[Tensor, " r"]:
    """Return all eigenvalues of a symmetric matrix, largest first.

    LAPACK's float32 solver gives up on covariances of which most rows are zero (90 % of 1024
    columns without variance): those rows are left out first, and what still fails is tried in
    float64.

    Args:
        moment: The matrix.
        alive: Numbers of the rows that are not zero; None if all are.

    Returns:
        The eigenvalues; 0 for every row left out.

    Raises:
        torch.linalg.LinAlgError: If the solver does not converge in float64 either.
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
