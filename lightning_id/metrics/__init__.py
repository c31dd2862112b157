"""The estimators as torchmetrics: state over batches and ranks, one number at the end."""

from lightning_id.metrics.gride import GrideDimension
from lightning_id.metrics.mle import MLEDimension
from lightning_id.metrics.pca import ParticipationRatio, PCADimension
from lightning_id.metrics.reservoir import DimensionMetric
from lightning_id.metrics.twonn import TwoNNDimension

__all__ = [
    "DimensionMetric",
    "GrideDimension",
    "MLEDimension",
    "PCADimension",
    "ParticipationRatio",
    "TwoNNDimension",
]
