"""How many leading eigenvalues hold a share of the trace, certified without the others.

For a symmetric matrix A and orthonormal columns V let T = VᵀAV, R = AV - VT, and let C be A on the
complement of V. Leading eigenvalues of T add up to lower bounds (Ky Fan). Upper bounds: if no
eigenvalue of C is above δ, then for every level μ > δ

    A <= μ 1 + V (T - μ 1 + RᵀR / (μ - δ)) Vᵀ,

as the Schur complement shows, and k leading eigenvalues add up to at most k leading ones of the
right side. The count c is certified where c eigenvalues of T reach the share and the upper bound of
c - 1 does not.

δ is a bound by random vectors (Dixon, SIAM J. Numer. Anal. 20, 812, 1983). Steps of Lanczos'
iteration with all of Ω, `_PROBES` columns of normal numbers, give the polynomial p that makes
|p(C) Ω| small. With the eigenvector u of the largest eigenvalue λ of C, |p(C) Ω| is at least
p(λ) |uᵀΩ|, and |uᵀΩ|² has the χ² distribution of so many degrees, whatever the matrix: it is below
`_CHI2` once in 10^15 draws. So λ is at most the δ above all zeros of p with
p(δ)² `_CHI2` = |p(C) Ω|².

Roundings: T, R and C, and the full decomposition with which the count agrees, have roundings of the
dtype of A, which move sums of k by some ε √k ‖A‖: `ROUNDINGS` of these keep the sums apart from the
share, and the level apart from δ.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_id.functional.eigenvalues import LaterSpectrum, LinAlgError

SMALLEST, LARGEST = 512, 4096  # rows of a matrix: elsewhere all eigenvalues are computed
ROUNDINGS = 16  # measured: at most 5 in all eigenvalues, 7 in Ritz values
_ROUNDS = 2
_LARGEST_SHARE = 12  # a count above a twelfth of all is left to the full decomposition
_PROBES, _STEPS, _CHI2 = 32, 4, 1.648
_SEED = 2**40 + 1  # of Ω, on which nothing else may depend
_TINY = torch.finfo(torch.float32).tiny


@dataclass
class Leading:
    """The last counts of a layer, with which the next begin, and its spectrum, to be computed."""

    vectors: dict[bool, Float[Tensor, "r m"]] = field(default_factory=dict)  # by `standardize`
    counts: dict[tuple[float, bool], int] = field(default_factory=dict)  # by share too
    slow: set[bool] = field(default_factory=set)  # `standardize`, where one round was not enough
    needs_all: bool = False  # all eigenvalues are computed in any case
    spectrum: LaterSpectrum | None = None

    def count(
        self, moment: Float[Tensor, "r r"], share: float, noise: float, standardize: bool
    ) -> int | None:
        """Return the certified count; None if there is none."""
        last = self.counts.get((share, standardize))
        if last is not None and last > len(moment) // _LARGEST_SHARE:
            return None
        start = self.vectors.pop(standardize, None)
        if start is not None and len(start) == len(moment):
            start = start.to(moment, non_blocking=True)
        else:
            start = None
        try:
            value, self.vectors[standardize], rounds = leading_count(
                moment, share, noise, start, last, start is None or standardize in self.slow
            )
        except LinAlgError:
            return None
        if rounds > 1:
            self.slow.add(standardize)
        if value is not None:
            self.counts[share, standardize] = value
        return value


class LeadingCount(NamedTuple):
    """A count if certified, and vectors near the leading eigenvectors, to begin the next with."""

    value: int | None
    vectors: Float[Tensor, "r m"]
    rounds: int


def leading_count(
    moment: Float[Tensor, "r r"],
    share: float,
    noise: float,
    start: Float[Tensor, "r m"] | None = None,
    expected: int | None = None,
    slow: bool = True,
) -> LeadingCount:
    """Return how many leading eigenvalues hold a share below 1 of the trace.

    ``moment`` is positive semidefinite, and eigenvalues up to ``noise`` of its largest are noise.
    Begins with ``start``, or with random vectors for the expected count; where one round
    would not be enough, because the eigenvalues fall slowly, with one product more (``slow``).
    """
    size = len(moment)
    most = size // _LARGEST_SHARE
    if start is None:
        start = _random(moment, _width(expected or most * 2 // 3, size), seed=0)
        start = torch.linalg.qr(moment @ start).Q
    if slow:
        start = torch.linalg.qr(moment @ start).Q
    block = moment @ start
    for rounds in range(1, _ROUNDS + 1):
        part = _project(moment, block)
        values, rotation = (each.flip(-1) for each in torch.linalg.eigh(part.inner))
        sums, target = values.cumsum(0), share * part.trace
        margin = ROUNDINGS * torch.finfo(moment.dtype).eps * part.norm
        margins = margin * torch.arange(1, len(values) + 1).sqrt()
        floor = noise * float(values[0])
        count, is_certified = int((sums - margins < target).sum()) + 1, False
        if count > len(values):
            # Too many, because the smallest Ritz values have not converged.
            count += int((target - float(sums[-1])) / max(float(values[-1]), floor)) * 2 // 3
        elif float(values[count - 1]) <= 2 * floor or bool((abs(sums - target) < margins).any()):
            break  # the full decomposition leaves noise out, and decides ties
        elif count > 1:
            k, level = count - 1, float(values[count - 1])
            is_certified = part.bound(k, level, margin) < target - float(margins[k - 1])
        else:
            is_certified = True
        width = _width(count, size)
        leading = rotation[:, :width].to(part.basis, non_blocking=True)
        if is_certified:
            return LeadingCount(count, part.basis @ leading, rounds)
        if count > (2 * most if count > len(values) else most):
            break
        smallest = float(values[:width][-1])
        block = (part.products - part.basis * (smallest / 2)) @ leading  # shifted for fast decay
        if width > len(values):
            more = _random(moment, width - len(values), seed=0) * (smallest / math.sqrt(size))
            block = torch.cat((block, more), 1)
    return LeadingCount(None, part.basis, rounds)


def _width(count: int, size: int) -> int:
    """Return the number of vectors with which so many converge fast."""
    return min(count + count // 2 + 16, size // 4)


class _Projection(NamedTuple):
    """A matrix on the span of orthonormal columns and off it; numbers are on the CPU."""

    basis: Float[Tensor, "r m"]
    products: Float[Tensor, "r m"]  # of the matrix with the basis
    inner: Float[Tensor, "m m"]  # T, float64
    residual: Float[Tensor, "m m"]  # RᵀR
    outside: float  # δ
    trace: float
    norm: float

    def bound(self, k: int, level: float, margin: float) -> float:
        """Return an upper bound of the sum of k eigenvalues, infinite if there is none."""
        gap = level - self.outside - margin
        if not gap > 0:
            return math.inf
        raised = torch.linalg.eigvalsh(self.inner + self.residual / gap)[-k:]
        return float(raised.clamp_min(level).sum())


def _project(moment: Float[Tensor, "r r"], block: Float[Tensor, "r m"]) -> _Projection:
    """Project on the span of a block; the device is waited for once."""
    basis = torch.linalg.qr(block).Q
    products = moment @ basis
    inner = basis.T @ products
    residual = products - basis @ inner
    trace = moment.diagonal().sum(dtype=torch.float64)
    norm = torch.linalg.vector_norm(torch.linalg.vector_norm(moment, dim=1), dtype=torch.float64)
    parts = inner, residual.T @ residual, *_lanczos(moment, basis), trace, norm
    sizes = [part.numel() for part in parts]
    found = torch.split(torch.cat([part.double().flatten() for part in parts]).cpu(), sizes)
    inner, residual = (each.view(inner.shape) for each in found[:2])
    outside = _largest_eigenvalue(found[2], found[3])
    return _Projection(basis, products, inner, residual, outside, float(found[4]), float(found[5]))


def _lanczos(
    moment: Float[Tensor, "r r"], basis: Float[Tensor, "r m"]
) -> tuple[Float[Tensor, " s"], Float[Tensor, " t"]]:
    """Return the coefficients of Lanczos' iteration on the complement of the basis, from Ω."""
    start = _random(basis, _PROBES, _SEED)
    vector = start - basis @ (basis.T @ start)
    before, alphas, betas = torch.zeros_like(vector), [], [torch.linalg.vector_norm(vector)]
    for _ in range(_STEPS):
        vector = vector / betas[-1].clamp_min(_TINY)
        after = moment @ vector
        after = after - basis @ (basis.T @ after)
        alphas.append((vector * after).sum())
        after -= alphas[-1] * vector + betas[-1] * before
        betas.append(torch.linalg.vector_norm(after))
        before, vector = vector, after
    return torch.stack(alphas), torch.stack(betas)


def _largest_eigenvalue(alphas: Float[Tensor, " s"], betas: Float[Tensor, " t"]) -> float:
    """Return the bound δ on the eigenvalues, from steps of Lanczos' iteration."""
    between = betas[1:-1]
    zeros = torch.linalg.eigvalsh(alphas.diag() + between.diag(1) + between.diag(-1))
    n = len(zeros)
    smallest = max(abs(1e-3 * float(zeros[-1])) ** n, 1e-300)  # the size is 0 of low ranks
    size = (betas.prod() / math.sqrt(_CHI2)).clamp_min(smallest)
    found = zeros[-1] + size ** (1 / n)  # of p(δ) = size too high, as are Newton's steps
    for _ in range(9):
        distances = found - zeros
        found = found - (1 - size / distances.prod()) / (1 / distances).sum()
    return float(found)


def _random(like: Float[Tensor, "r m"], width: int, seed: int) -> Float[Tensor, "r w"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(like), width, generator=generator).to(like, non_blocking=True)
