"""The estimators as torchmetrics: state over batches and ranks, one number at the end."""

from lightning_id.metrics.estimators import (
    GrideDimension,
    MLEDimension,
    ParticipationRatio,
    PCADimension,
    TwoNNDimension,
)
from lightning_id.metrics.reservoir import DimensionMetric

__all__ = [
    "DimensionMetric",
    "GrideDimension",
    "MLEDimension",
    "PCADimension",
    "ParticipationRatio",
    "TwoNNDimension",
]
