"""The numerical core: dimensions of point clouds, in torch, without Lightning or torchmetrics."""

from lightning_id.functional.estimate import Estimate
from lightning_id.functional.geometry import Geometry
from lightning_id.functional.pca import (
    Spectrum,
    effective_rank,
    participation_ratio,
    pca_dimension,
    pca_spectrum,
)
from lightning_id.functional.twonn import twonn_dimension

__all__ = [
    "Estimate",
    "Geometry",
    "Spectrum",
    "effective_rank",
    "participation_ratio",
    "pca_dimension",
    "pca_spectrum",
    "twonn_dimension",
]
