"""The Levina-Bickel estimator over batches and ranks."""

from functools import partial
from typing import Any, Literal

from lightning_id.functional import mle_dimension
from lightning_id.metrics.reservoir import DimensionMetric


class MLEDimension(DimensionMetric):
    """Maximum likelihood intrinsic dimension of all rows seen, or of a uniform sample of them.

    See `lightning_id.functional.mle_dimension`; input, output and sampling are those of
    `DimensionMetric`. The scale is that of neighbour k, and grows as rows get fewer: compare only
    values of equal ``max_samples``.

    Args:
        k: Neighbours of every row, from 2 (from 3 for the two other averages), below
            ``max_samples``.
        average: ``"mackay-ghahramani"``, ``"levina-bickel"`` or ``"unbiased"``.
        max_samples: As in `DimensionMetric`, like ``seed`` and ``kwargs``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lightning_id.metrics import MLEDimension
        >>> x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
        >>> metric = MLEDimension(k=10)
        >>> for batch in x.split(250):
        ...     metric.update(batch)
        >>> estimate = metric.estimate()
        >>> print(f"{estimate.value:.2f} +- {estimate.std_error:.2f}")
        4.97 +- 0.07
    """

    def __init__(
        self,
        k: int = 20,
        average: Literal["mackay-ghahramani", "levina-bickel", "unbiased"] = "mackay-ghahramani",
        max_samples: int = 2000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(partial(mle_dimension, k=k, average=average), max_samples, seed, **kwargs)
