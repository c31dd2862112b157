"""Linear dimensions over batches and ranks."""

from functools import partial
from typing import Any

from lightning_id.functional import participation_ratio, pca_dimension
from lightning_id.metrics.reservoir import DimensionMetric


class PCADimension(DimensionMetric):
    """The number of principal components that hold a share of the variance of the rows.

    Counted from 1; 0 for a constant cloud; see `lightning_id.functional.pca_dimension`. It cannot
    exceed the number of rows less one and grows with it: compare only values of equal
    ``max_samples``. Every row counts, repeated ones too.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``data`` (`torch.Tensor`): floating tensor of shape ``(n, d)``, one row of d features for each
      sample; n may be 0.

    As output of ``forward`` and ``compute`` the metric returns:

    - ``dimension`` (`torch.Tensor`): float32 scalar, a whole number. NaN, with a warning that says
      why, for fewer than three rows, NaN or infinite values. ``forward`` counts for each batch by
      itself.

    Args:
        explained_variance: The share, in (0, 1].
        standardize: Scale every column to unit variance first, as Ansuini et al. (2019) do.
        max_samples: Rows to keep, at least 3: a uniform sample of all rows seen, over all ranks.
        seed: Chooses the sample, in [0, 2^64).
        kwargs: Keyword arguments of ``torchmetrics.Metric``.

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
    r"""The participation ratio of the covariance of the rows.

    :math:`(\sum \lambda)^2 / \sum \lambda^2` of its eigenvalues: over how many of equal size the
    variance would be spread as much; see `lightning_id.functional.participation_ratio`.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``data`` (`torch.Tensor`): floating tensor of shape ``(n, d)``, one row of d features for each
      sample; n may be 0.

    As output of ``forward`` and ``compute`` the metric returns:

    - ``dimension`` (`torch.Tensor`): float32 scalar between 1 and d; 0 for a constant cloud. NaN,
      with a warning that says why, for fewer than three rows, NaN or infinite values. ``forward``
      returns the ratio of each batch by itself.

    Args:
        standardize: Scale every column to unit variance first.
        max_samples: Rows to keep, at least 3: a uniform sample of all rows seen, over all ranks.
        seed: Chooses the sample, in [0, 2^64).
        kwargs: Keyword arguments of ``torchmetrics.Metric``.

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
