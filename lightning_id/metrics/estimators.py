"""The estimators over batches and ranks: twins of functions in `lightning_id.functional`."""

from functools import partial
from typing import Any, Literal

from lightning_id.functional import (
    gride_dimension,
    mle_dimension,
    participation_ratio,
    pca_dimension,
    twonn_dimension,
)
from lightning_id.metrics.reservoir import DimensionMetric


class TwoNNDimension(DimensionMetric):
    """TwoNN intrinsic dimension of all rows seen, or of a uniform sample of them.

    ``method`` and ``discard_fraction`` are as of `lightning_id.functional.twonn_dimension`, all
    else as of `DimensionMetric`. The value depends on the number of rows: the mean over batches or
    ranks is not the value of all rows. Equal rows, such as a ``DistributedSampler`` repeats to fill
    the last batch, count once.

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


class PCADimension(DimensionMetric):
    """Number of principal components of all rows seen, or of a uniform sample of them.

    ``explained_variance`` and ``standardize`` are as of `lightning_id.functional.pca_dimension`,
    all else as of `DimensionMetric`. The count grows with the number of rows: compare only values
    of equal ``max_samples``. Every row counts, repeated ones too.

    Example:
        >>> import torch
        >>> from torchmetrics import MetricCollection
        >>> from lightning_id.metrics import PCADimension, TwoNNDimension
        >>> metrics = MetricCollection(TwoNNDimension(), PCADimension(explained_variance=0.99))
        >>> angle = 6.28 * torch.rand(1000, generator=torch.Generator().manual_seed(0))
        >>> circle = torch.stack((angle.cos(), angle.sin()), dim=1)
        >>> for batch in circle.split(128):
        ...     metrics.update(batch)
        >>> {name: round(float(value)) for name, value in metrics.compute().items()}
        {'TwoNNDimension': 1, 'PCADimension': 2}
    """

    def __init__(
        self,
        explained_variance: float = 0.9,
        standardize: bool = False,
        max_samples: int = 2000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        estimator = partial(
            pca_dimension, explained_variance=explained_variance, standardize=standardize
        )
        super().__init__(estimator, max_samples, seed, **kwargs)


class ParticipationRatio(DimensionMetric):
    """Participation ratio of the covariance of all rows seen, or of a uniform sample of them.

    ``standardize`` is as of `lightning_id.functional.participation_ratio`, all else as of
    `DimensionMetric`.

    Example:
        >>> import torch
        >>> from lightning_id.metrics import ParticipationRatio
        >>> metric = ParticipationRatio()
        >>> metric.update(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
        >>> metric.update(torch.tensor([[0.0, 3.0], [0.0, -3.0]]))
        >>> metric.compute()
        tensor(2.)
    """

    def __init__(
        self, standardize: bool = False, max_samples: int = 2000, seed: int = 0, **kwargs: Any
    ) -> None:
        estimator = partial(participation_ratio, standardize=standardize)
        super().__init__(estimator, max_samples, seed, **kwargs)


class GrideDimension(DimensionMetric):
    """Gride intrinsic dimension of all rows seen, or of a uniform sample of them.

    ``n1`` and ``n2`` are as of `lightning_id.functional.gride_dimension`, all else as of
    `DimensionMetric`. Compare only values of equal ``max_samples``: the scale depends on it.

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


class MLEDimension(DimensionMetric):
    """Maximum likelihood intrinsic dimension of all rows seen, or of a uniform sample of them.

    ``k`` and ``average`` are as of `lightning_id.functional.mle_dimension`, all else as of
    `DimensionMetric`. Compare only values of equal ``max_samples``: the scale depends on it.

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
