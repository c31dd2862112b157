"""Gride over batches and ranks."""

from functools import partial
from typing import Any

from lightning_id.functional import gride_dimension
from lightning_id.metrics.reservoir import DimensionMetric


class GrideDimension(DimensionMetric):
    """Gride intrinsic dimension of all rows seen, or of a uniform sample of them.

    See `lightning_id.functional.gride_dimension`; input, output and sampling are those of
    `DimensionMetric`. Larger orders measure on a larger scale, which grows as rows get fewer too:
    compare only values of equal ``max_samples``.

    Args:
        n1: Order of the nearer neighbour, from 1.
        n2: Order of the further one, above n1 and below ``max_samples``.
        max_samples: As in `DimensionMetric`, like ``seed`` and ``kwargs``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lightning_id.metrics import GrideDimension
        >>> generator = torch.Generator().manual_seed(0)
        >>> thick = torch.rand(2000, 8, generator=generator) * torch.tensor([1.0] * 2 + [0.01] * 6)
        >>> near, far = GrideDimension(), GrideDimension(n1=32, n2=64)
        >>> for batch in thick.split(500):
        ...     near.update(batch)
        ...     far.update(batch)
        >>> f"{near.compute():.1f} near, {far.compute():.1f} far"
        '3.6 near, 1.9 far'
    """

    def __init__(
        self, n1: int = 1, n2: int = 2, max_samples: int = 2000, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(partial(gride_dimension, n1=n1, n2=n2), max_samples, seed, **kwargs)
