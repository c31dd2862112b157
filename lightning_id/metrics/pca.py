"""Linear dimensions over batches and ranks."""

from functools import partial
from typing import Any

from lightning_id.functional import participation_ratio, pca_dimension
from lightning_id.metrics.reservoir import DimensionMetric


class PCADimension(DimensionMetric):
    """Number of principal components of all rows seen, or of a uniform sample of them.

    See `lightning_id.functional.pca_dimension`; input, output and sampling are those of
    `DimensionMetric`. The count cannot exceed the number of rows less one and grows with it:
    compare only values of equal ``max_samples``. Every row counts, repeated ones too.

    Args:
        explained_variance: The share, in (0, 1].
        standardize: Scale every column to unit variance first, as Ansuini et al. (2019) do.
        max_samples: As in `DimensionMetric`, like ``seed`` and ``kwargs``.

    Raises:
        ValueError: If an argument is out of its range.

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

    See `lightning_id.functional.participation_ratio`; input, output and sampling are those of
    `DimensionMetric`.

    Args:
        standardize: Scale every column to unit variance first.
        max_samples: As in `DimensionMetric`, like ``seed`` and ``kwargs``.

    Raises:
        ValueError: If an argument is out of its range.

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
