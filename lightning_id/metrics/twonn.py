"""TwoNN over batches and ranks."""

from functools import partial
from typing import Any, Literal

from lightning_id.functional import twonn_dimension
from lightning_id.metrics.reservoir import DimensionMetric


class TwoNNDimension(DimensionMetric):
    """TwoNN intrinsic dimension of all rows seen, or of a uniform sample of them.

    See `lightning_id.functional.twonn_dimension`; input, output and sampling are those of
    `DimensionMetric`. The value depends on the number of rows: the mean over batches or ranks is
    not the value of all rows, so call ``update`` for every batch and ``compute`` at the end. Equal
    rows, such as those a ``DistributedSampler`` repeats to fill the last batch, count once.

    Args:
        method: ``"linear"``, the fit of Ansuini et al. (2019), or ``"mle"``, the censored maximum
            likelihood.
        discard_fraction: Share of the largest ratios left out of the fit, in [0, 1).
        max_samples: As in `DimensionMetric`, like ``seed`` and ``kwargs``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lightning_id.metrics import TwoNNDimension
        >>> plane = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> metric = TwoNNDimension()
        >>> for batch in (plane @ torch.eye(2, 100)).split(128):
        ...     metric.update(batch)
        >>> round(float(metric.compute()), 2)
        2.02
        >>> estimate = metric.estimate()
        >>> f"{estimate.low:.2f} to {estimate.high:.2f}"
        '1.85 to 2.19'
    """

    def __init__(
        self,
        method: Literal["linear", "mle"] = "linear",
        discard_fraction: float = 0.1,
        max_samples: int = 2000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        estimator = partial(twonn_dimension, method=method, discard_fraction=discard_fraction)
        super().__init__(estimator, max_samples, seed, **kwargs)
