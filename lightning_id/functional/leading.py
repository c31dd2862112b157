"""How many leading eigenvalues hold a share of the trace, certified without the others.

Subspace iteration gives orthonormal vectors v of the matrix A and Ritz values θ. Sums of the
leading Ritz values are lower bounds of the sums of eigenvalues (Ky Fan). Upper bounds: for any
level μ, vectors and weights d >= 0,

    if μ 1 + Σ d_i v_i v_iᵀ - A >= 0, k leading eigenvalues add up to k μ + Σ d_i |v_i|² at most,

which one Cholesky factorisation decides. The count c is certified where θ_1 + ... + θ_c reaches
the share and the upper bound for k = c - 1 does not.

Roundings: the factorisation is made in float64, where its rounding and that of its matrix are less
than 4 r roundings of the traces added (Higham, Accuracy and Stability of Numerical Algorithms,
theorem 10.3). Ritz values, and the full decomposition with which the count agrees, have roundings
of the dtype of A, which move sums of k by some ε √k ‖A‖: `ROUNDINGS` of these keep the sums apart
from the share.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_id.functional.eigenvalues import LaterSpectrum, LinAlgError
from lightning_id.functional.products import add_triangle

SMALLEST, LARGEST = 512, 4096  # rows of a matrix: elsewhere all eigenvalues are computed
ROUNDINGS = 16  # measured: at most 5 in all eigenvalues, 7 in Ritz values
_ROUNDS = 3
_LARGEST_SHARE = 12  # a count above a twelfth of all is left to the full decomposition
_WIDEN = 1.2  # eigenvalues outside of a block may be larger than its smallest Ritz value
_PREDICTED = 0.05  # of the room of the upper bound: the factorisation is not tried above


@dataclass
class Leading:
    """The last counts of a layer, with which the next begin, and its spectrum, to be computed."""

    vectors: dict[bool, Float[Tensor, "r m"]] = field(default_factory=dict)  # by `standardize`
    counts: dict[tuple[float, bool], int] = field(default_factory=dict)  # by share too
    needs_all: bool = False  # all eigenvalues are computed in any case
    spectrum: LaterSpectrum | None = None

    def count(
        self,
        moment: Float[Tensor, "r r"],
        alive: Int[Tensor, " a"] | None,
        share: float,
        noise: float,
        standardize: bool,
    ) -> int | None:
        """Return the certified count; None if there is none."""
        last = self.counts.get((share, standardize))
        if last is not None and last > len(moment) // _LARGEST_SHARE:
            return None
        start = self.vectors.pop(standardize, None)
        start = (
            start.to(moment, non_blocking=True)
            if start is not None and len(start) == len(moment)
            else None
        )
        part = moment
        if alive is not None:
            part, start = moment[alive[:, None], alive], None if start is None else start[alive]
        try:
            value, vectors = leading_count(part, share, noise, start, last)
        except LinAlgError:
            return None
        if alive is not None:
            vectors = vectors.new_zeros(len(moment), vectors.shape[1]).index_copy(0, alive, vectors)
        self.vectors[standardize] = vectors
        if value is not None:
            self.counts[share, standardize] = value
        return value


class LeadingCount(NamedTuple):
    """A count if certified, and vectors near the leading eigenvectors, to begin the next with."""

    value: int | None
    vectors: Float[Tensor, "r m"]


class _Ritz(NamedTuple):
    vectors: Float[Tensor, "r m"]
    products: Float[Tensor, "r m"]  # of the matrix with the vectors
    values: Float[Tensor, " m"]  # largest first; float64 on the CPU, as the residuals
    residuals: Float[Tensor, " m"]  # squared


def leading_count(
    moment: Float[Tensor, "r r"],
    share: float,
    noise: float,
    start: Float[Tensor, "r m"] | None = None,
    expected: int | None = None,
) -> LeadingCount:
    """Return how many leading eigenvalues hold a share below 1 of the trace.

    ``moment`` is positive semidefinite, and eigenvalues up to ``noise`` of its largest are noise.
    Begins with ``start``, or with random vectors for the expected count.
    """
    size = len(moment)
    trace = moment.diagonal().sum(dtype=torch.float64)
    norm = torch.linalg.vector_norm(moment, dtype=torch.float64)
    trace, norm = torch.stack((trace, norm)).cpu().tolist()
    target, most = share * trace, size // _LARGEST_SHARE
    margin = ROUNDINGS * torch.finfo(moment.dtype).eps * norm
    if start is None:
        start = _random(moment, _width(expected or most * 2 // 3, size))
    # Cauchy-Schwarz: c eigenvalues hold at most √c of the norm.
    if target**2 >= most * norm**2:
        return LeadingCount(None, start)
    block = moment @ start
    for _ in range(_ROUNDS):
        ritz = _ritz(moment, block)
        values, sums = ritz.values, ritz.values.cumsum(0)
        floor = noise * float(values[0])
        margins = margin * torch.arange(1, len(values) + 1).sqrt()
        count = int((sums - margins < target).sum()) + 1
        if count > len(values):
            # Too many, because the smallest Ritz values have not converged.
            count += int((target - float(sums[-1])) / max(float(values[-1]), floor)) * 2 // 3
        elif float(values[count - 1]) < 2 * floor or bool((abs(sums - target) < margins).any()):
            break  # the full decomposition leaves noise out, and decides ties
        elif count == 1 or _is_below(moment, ritz, count - 1, target - float(margins[count - 1])):
            return LeadingCount(count, ritz.vectors[:, : _width(count, size)])
        if count > (2 * most if count > len(values) else most):
            break
        block = _next_block(ritz, _width(count, size))
    return LeadingCount(None, ritz.vectors)


def _width(count: int, size: int) -> int:
    """Return the number of vectors with which so many converge fast."""
    return min(count + count // 2 + 16, size // 4)


def _ritz(moment: Float[Tensor, "r r"], block: Float[Tensor, "r m"]) -> _Ritz:
    basis = torch.linalg.qr(block).Q
    products = moment @ basis
    values, rotation = torch.linalg.eigh(basis.T @ products)
    values, rotation = values.flip(0), rotation.flip(1)
    vectors, products = basis @ rotation, products @ rotation
    residuals = (products - vectors * values).square().sum(0)
    values, residuals = torch.stack((values, residuals)).double().cpu()
    return _Ritz(vectors, products, values, residuals)


def _next_block(ritz: _Ritz, width: int) -> Float[Tensor, "r m"]:
    """Return the block of the next round: a product with the matrix, shifted for fast decay."""
    smallest, here = float(ritz.values[-1]), ritz.vectors.shape[1]
    block = ritz.products - ritz.vectors * (smallest / 2)
    if width <= here:
        return block[:, :width]
    more = _random(block, width - here) * (smallest / math.sqrt(len(block)))
    return torch.cat((block, more), 1)


def _random(like: Float[Tensor, "r m"], width: int) -> Float[Tensor, "r w"]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(like), width, generator=generator).to(like, non_blocking=True)


def _is_below(moment: Float[Tensor, "r r"], ritz: _Ritz, k: int, limit: float) -> bool:
    """Return whether the k leading eigenvalues are proved to add up to less than the limit."""
    values, held = ritz.values, float(ritz.values[:k].sum())
    # To second order a Ritz value is below the eigenvalue by residual² / gap, and the gap is that
    # from the level to the eigenvalues outside. A lower level leaves less excess, but less gap.
    levels = values[: k + 1]
    gaps = (levels - _WIDEN * values[-1]).clamp_min(1e-9 * float(values[0]))
    raised = values[:, None] + 2 * ritz.residuals[:, None] / gaps
    excess, at = (k * levels + (raised - levels).clamp_min(0).sum(0) - held).min(0)
    room, level = limit - held, levels[at]
    if float(excess) >= _PREDICTED * room:
        return False
    spare = 0.9 * (room - excess)
    needed = raised[:, at] - level
    weights = (needed + spare / max(k, int((needed + spare / k > 0).sum()))).clamp_min(0)
    used = (weights > 0).nonzero()[:, 0]
    vectors = ritz.vectors[:, used.to(moment.device, non_blocking=True)]
    return _bound(moment, vectors, weights[used], level, k) < limit


def _bound(
    moment: Float[Tensor, "r r"],
    vectors: Float[Tensor, "r w"],
    weights: Float[Tensor, " w"],
    level: Float[Tensor, ""],
    k: int,
) -> float:
    """Return an upper bound of the sum of the k leading eigenvalues, infinite if there is none."""
    scaled = vectors.double() * weights.sqrt().to(vectors.device, non_blocking=True)
    above = add_triangle(-moment.double(), scaled, first=False)  # the factorisation reads no more
    above.diagonal().add_(level)
    traces = scaled.square().sum(), moment.diagonal().sum(dtype=torch.float64)
    failed = torch.linalg.cholesky_ex(above).info.double()
    weight, trace, has_failed = torch.stack((*traces, failed)).cpu().tolist()
    if has_failed:
        return math.inf
    rounding = 4 * len(moment) * torch.finfo(torch.float64).eps
    rounding *= len(moment) * float(level) + weight + trace
    bound: float = weight + k * (float(level) + rounding)
    return bound
