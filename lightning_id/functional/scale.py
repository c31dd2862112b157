"""Dimension against scale: from near neighbours to far ones, and from all rows to few."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_id.functional.estimate import Estimate
from lightning_id.functional.geometry import Geometry, geometry_of
from lightning_id.functional.gride import gride_dimension
from lightning_id.functional.twonn import twonn_dimension

FEWEST_FLAT = 3  # three doublings in a row: neighbours 2 to 8, or 4 to 16


@dataclass(frozen=True)
class Decimation:
    """TwoNN of disjoint random blocks of the distinct rows.

    Attributes:
        n_blocks: Number of blocks, b.
        n_rows: Rows of a block, floor(N / b).
        estimates: One for each block.
    """

    n_blocks: int
    n_rows: int
    estimates: tuple[Estimate, ...]

    @property
    def values(self) -> list[float]:
        """The estimates of the blocks that have one."""
        return [e.value for e in self.estimates if e.reason is None]

    @property
    def mean(self) -> float:
        """Mean over the blocks that have an estimate; NaN if none has."""
        return sum(self.values) / len(self.values) if self.values else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation between the blocks, divisor b - 1; NaN for one block."""
        if len(self.values) < 2:
            return math.nan
        squares = sum((value - self.mean) ** 2 for value in self.values)
        return math.sqrt(squares / (len(self.values) - 1))


@dataclass(frozen=True)
class ScaleProfile:
    """The dimension of one cloud at many scales.

    Attributes:
        orders: (n1, n2) of every Gride estimate: (1, 2), (2, 4), (4, 8), ...
        gride: The Gride estimates, all of every row, from near to far.
        scales: Scale of each of them, the mean over the rows of (r_n1 + r_n2) / 2; NaN where there
            is no estimate.
        decimation: TwoNN of fewer and fewer rows, from all of them.
        flat: Positions in ``gride`` of the first and the last estimate of the flat part, or None if
            there is none.
    """

    orders: tuple[tuple[int, int], ...]
    gride: tuple[Estimate, ...]
    scales: tuple[float, ...]
    decimation: tuple[Decimation, ...]
    flat: tuple[int, int] | None


def scale_profile(
    x: Tensor | Geometry,
    max_order: int = 64,
    blocks: Sequence[int] = (1, 2, 4, 8, 16),
    flat_tolerance: float = 0.1,
    seed: int = 0,
) -> ScaleProfile:
    """Return the dimension of the rows of ``x`` at many scales.

    In two ways, from one Gram matrix: Gride with n2 = 2 n1 = 2, 4, 8, ... over all rows, and TwoNN
    over random disjoint blocks of the distinct rows, whose neighbours are farther the fewer rows
    there are. With noise the profile decreases from the smallest scale on; trust a value from where
    the profile is flat.

    **Flat** is the longest run of at least three Gride estimates of which the largest is at most
    ``flat_tolerance`` above the smallest; of two equally long runs, the nearer one.

    Source: Denti, Doimo, Laio, Mira, Scientific Reports 12, 20005 (2022) for Gride; Facco,
    d'Errico, Rodriguez, Laio, Scientific Reports 7, 12140 (2017) for the blocks.

    Args:
        x: (n, d) rows of any floating dtype on any device, or a `Geometry` made from them.
        max_order: Largest n2, at least 2.
        blocks: Numbers of blocks, each at least 1.
        flat_tolerance: Share by which the largest may exceed the smallest estimate of a flat run.
        seed: Seed of the private generator that assigns the rows to blocks.

    Returns:
        The profile. Where there is no estimate (too few rows, ties only) it is NaN with a reason.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor, or an argument is out of its range.

    Example:
        >>> import torch
        >>> from lightning_id.functional import scale_profile
        >>> generator = torch.Generator().manual_seed(0)
        >>> plane = torch.rand(2000, 2, generator=generator) @ torch.eye(2, 20)
        >>> noisy = plane + 0.005 * torch.randn(2000, 20, generator=generator)
        >>> profile = scale_profile(noisy)
        >>> print(*[f"{estimate.value:.1f}" for estimate in profile.gride])
        8.8 5.9 4.0 3.0 2.4 2.1
        >>> profile.flat  # None: it still falls
        >>> print(*[f"{part.mean:.1f}" for part in profile.decimation])
        8.6 6.6 4.9 3.7 3.0
    """
    if max_order < 2:
        raise ValueError(f"`max_order`: expected at least 2, got {max_order}")
    if not all(b >= 1 for b in blocks):
        raise ValueError(f"`blocks`: expected numbers from 1, got {tuple(blocks)}")
    geometry = geometry_of(x)
    orders = tuple((2**i, 2 ** (i + 1)) for i in range(max_order.bit_length() - 1))
    if geometry.neighbor_reason is None:
        geometry.neighbors(min(orders[-1][1], len(geometry.distinct) - 1))  # one search for all
    gride = tuple(gride_dimension(geometry, n1, n2) for n1, n2 in orders)
    return ScaleProfile(
        orders=orders,
        gride=gride,
        scales=tuple(
            math.nan if math.isnan(e.value) else _mean_distance(geometry, n1, n2)
            for e, (n1, n2) in zip(gride, orders, strict=True)
        ),
        decimation=tuple(_decimation(geometry, b, seed) for b in blocks),
        flat=_longest_flat_run([e.value for e in gride], flat_tolerance),
    )


def _mean_distance(geometry: Geometry, n1: int, n2: int) -> float:
    distances = geometry.neighbors(n2).distances
    return float((distances[:, n1 - 1] + distances[:, n2 - 1]).mean()) / 2


def _decimation(geometry: Geometry, n_blocks: int, seed: int) -> Decimation:
    if n_blocks == 1 or geometry.neighbor_reason is not None:
        n_rows = geometry.n_samples - geometry.n_duplicates
        return Decimation(n_blocks, n_rows // n_blocks, (twonn_dimension(geometry),))
    n_rows = len(geometry.distinct) // n_blocks
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(len(geometry.distinct), generator=generator, device="cpu")
    shuffled = geometry.distinct[order.to(geometry.distinct.device)]
    blocks = shuffled[: n_blocks * n_rows].view(n_blocks, n_rows)
    estimates = tuple(twonn_dimension(geometry.subset(rows)) for rows in blocks)
    return Decimation(n_blocks, n_rows, estimates)


def _longest_flat_run(values: list[float], tolerance: float) -> tuple[int, int] | None:
    for length in range(len(values), FEWEST_FLAT - 1, -1):
        for first in range(len(values) - length + 1):
            run = values[first : first + length]
            known = not any(math.isnan(value) for value in run)
            if known and max(run) <= (1 + tolerance) * min(run):
                return first, first + length - 1
    return None
