"""The numerical core: dimensions of point clouds, in torch, without Lightning or torchmetrics."""

from lightning_id.functional.change import Change, change, change_of_estimates
from lightning_id.functional.ess import ess_dimension
from lightning_id.functional.estimate import Estimate, Influence
from lightning_id.functional.gaussian import gaussian_twonn_dimension
from lightning_id.functional.geometry import Geometry
from lightning_id.functional.gride import gride_dimension
from lightning_id.functional.law import is_law_broken
from lightning_id.functional.mle import mle_dimension
from lightning_id.functional.pca import (
    Spectrum,
    effective_rank,
    participation_ratio,
    pca_dimension,
    pca_spectrum,
)
from lightning_id.functional.plateau import gride_plateau_dimension
from lightning_id.functional.registry import (
    ESTIMATORS,
    EstimatorSpec,
    estimator_spec,
    get_estimator,
    register_estimator,
)
from lightning_id.functional.scale import Decimation, ScaleProfile, scale_profile
from lightning_id.functional.twonn import twonn_dimension

__all__ = [
    "ESTIMATORS",
    "Change",
    "Decimation",
    "Estimate",
    "EstimatorSpec",
    "Geometry",
    "Influence",
    "ScaleProfile",
    "Spectrum",
    "change",
    "change_of_estimates",
    "effective_rank",
    "ess_dimension",
    "estimator_spec",
    "gaussian_twonn_dimension",
    "get_estimator",
    "gride_dimension",
    "gride_plateau_dimension",
    "is_law_broken",
    "mle_dimension",
    "participation_ratio",
    "pca_dimension",
    "pca_spectrum",
    "register_estimator",
    "scale_profile",
    "twonn_dimension",
]
