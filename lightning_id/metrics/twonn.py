"""TwoNN over batches and ranks."""

from functools import partial
from typing import Any, Literal

from lightning_id.functional import twonn_dimension
from lightning_id.metrics.reservoir import DimensionMetric


class TwoNNDimension(DimensionMetric):
    r"""The TwoNN intrinsic dimension of all rows seen, or of a uniform sample of them.

    The slope of :math:`-\log(1 - F(\mu))` on :math:`\log \mu`, :math:`\mu = r_2 / r_1` being the
    ratio of the distances of a row to its second and first neighbour; see
    `lightning_id.functional.twonn_dimension`. It depends on the number of rows: the mean of the
    values of several batches or ranks is not the value of all rows, so call ``update`` for every
    batch and ``compute`` at the end. Equal rows, such as those a ``DistributedSampler`` repeats to
    fill the last batch, count once.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``data`` (`torch.Tensor`): floating tensor of shape ``(n, d)``, one row of d features for each
      sample; n may be 0.

    As output of ``forward`` and ``compute`` the metric returns:

    - ``dimension`` (`torch.Tensor`): float32 scalar, not rounded. NaN, with a warning that says
      why, for fewer than three distinct rows, ties only, NaN or infinite values. ``forward``
      estimates each batch by itself.

    Args:
        method: ``"linear"``, the fit of Ansuini et al. (2019), or ``"mle"``, the censored maximum
            likelihood.
        discard_fraction: Share of the largest ratios left out of the fit, in [0, 1).
        max_samples: Rows to keep, at least 3: a uniform sample of all rows seen, over all ranks.
            The time of ``compute`` grows with its square.
        seed: Chooses the sample, in [0, 2^64).
        kwargs: Keyword arguments of ``torchmetrics.Metric``.

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
