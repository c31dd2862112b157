"""Estimators by name, with the texts that tables, figures, reports and loggers show for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightning_id.functional.ess import ess_dimension
from lightning_id.functional.estimate import Estimate
from lightning_id.functional.gaussian import gaussian_twonn_dimension
from lightning_id.functional.geometry import Geometry
from lightning_id.functional.gride import gride_dimension
from lightning_id.functional.mle import mle_dimension
from lightning_id.functional.pca import effective_rank, participation_ratio, pca_dimension
from lightning_id.functional.plateau import gride_plateau_dimension
from lightning_id.functional.twonn import twonn_dimension

Estimator = Callable[[Geometry], Estimate]


@dataclass(frozen=True)
class EstimatorSpec:
    """An estimator and the texts that tables, figures, reports and loggers show for it.

    Attributes:
        name: In configurations, logged keys and the history.
        function: From a `Geometry` to an `Estimate`.
        title: In tables, headlines and legends.
        axis_label: On the axis of a figure.
        method: One phrase on how it is computed, with the default arguments.
        lower_bound_above: Above this value the estimate is a lower bound; None for never.
        counts_repeats: Whether equal rows count as many rows, as they do in a covariance.
        needs_spectrum: Whether it needs all eigenvalues of the covariance.
    """

    name: str
    function: Estimator
    title: str
    axis_label: str
    method: str
    lower_bound_above: int | float | None = None
    counts_repeats: bool = False
    needs_spectrum: bool = False

    def __call__(self, *args: Any, **options: Any) -> Estimate:
        """Call the function."""
        return self.function(*args, **options)


_BUILT_IN = (
    EstimatorSpec(
        "twonn",
        twonn_dimension,
        "TwoNN",
        "intrinsic dimension (TwoNN)",
        "ratio of the distances to the second and the first neighbour, a line through the smallest"
        " 90 % of the ratios; 95 % intervals allow for shared neighbours",
        lower_bound_above=20,
    ),
    EstimatorSpec(
        "twonn_gaussian",
        gaussian_twonn_dimension,
        "Gaussian TwoNN",
        "TwoNN of a Gaussian of the same covariance",
        "TwoNN of as many Gaussian rows with the same covariance",
        counts_repeats=True,  # the covariance does
        needs_spectrum=True,
    ),
    EstimatorSpec(
        "pca",
        pca_dimension,
        "PCA 90 %",
        "components for 90 % of the variance",
        "principal components that hold 90 % of the variance",
        counts_repeats=True,
    ),
    EstimatorSpec(
        "pca_standardized",
        partial(pca_dimension, standardize=True),  # as in Ansuini et al. (2019)
        "standardised PCA 90 %",
        "components for 90 % of the variance, standardised columns",
        "the same of columns that are scaled to unit variance first",
        counts_repeats=True,
    ),
    EstimatorSpec(
        "gride",
        gride_dimension,
        "Gride",
        "intrinsic dimension (Gride)",
        "ratio of the distances to farther neighbours, maximum likelihood",
    ),
    EstimatorSpec(
        "gride_plateau",
        gride_plateau_dimension,
        "Gride plateau",
        "intrinsic dimension (Gride plateau)",
        "mean of Gride over the orders up to 64 where it does not depend on them",
    ),
    EstimatorSpec(
        "mle",
        mle_dimension,
        "MLE",
        "intrinsic dimension (MLE)",
        "distances to the nearest neighbours, maximum likelihood",
    ),
    EstimatorSpec(
        "ess",
        ess_dimension,
        "ESS",
        "intrinsic dimension (ESS)",
        "expected simplex skewness: angles between the rows of patches of 100 nearest rows",
    ),
    EstimatorSpec(
        "participation_ratio",
        participation_ratio,
        "participation ratio",
        "participation ratio",
        "squared sum of the eigenvalues over the sum of their squares",
        counts_repeats=True,
    ),
    EstimatorSpec(
        "effective_rank",
        effective_rank,
        "effective rank",
        "effective rank",
        "exponential of the entropy of the singular values over their sum",
        counts_repeats=True,
        needs_spectrum=True,
    ),
)
_RESERVED_ENDINGS = ("_se", "_change", "_per_class", "_per_class_sd")  # of logged keys
ESTIMATORS: dict[str, EstimatorSpec] = {spec.name: spec for spec in _BUILT_IN}


def estimator_spec(name: str) -> EstimatorSpec:
    """Return the record of an estimator, or one of its name alone if it is not registered here.

    A history may hold estimators that another program registered.

    Args:
        name: The name in the history.

    Returns:
        The registered record, or one whose function raises.

    Example:
        >>> estimator_spec("pca").title, estimator_spec("mine").title
        ('PCA 90 %', 'mine')
    """

    def unregistered(geometry: Geometry) -> Estimate:
        return get_estimator(name)(geometry)

    unknown = EstimatorSpec(name, unregistered, name, name, "registered by the user")
    return ESTIMATORS.get(name, unknown)


def get_estimator(name: str) -> Estimator:
    """Return the estimator of that name, with its default arguments unless the name implies others.

    Args:
        name: A built-in name or one given to `register_estimator`.

    Returns:
        The function from a `Geometry` to an `Estimate`.

    Raises:
        ValueError: If there is no such estimator.

    Example:
        >>> import torch
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> float(get_estimator("pca")(Geometry(x)))
        2.0
    """
    if not isinstance(name, str):
        raise ValueError(f"`estimators`: expected names, got {name!r}")
    if name not in ESTIMATORS:
        raise ValueError(
            f"no estimator named {name!r}; there are {', '.join(sorted(ESTIMATORS))};"
            " lightning_id.functional.register_estimator adds one"
        )
    return ESTIMATORS[name].function


def register_estimator(
    name: str,
    function: Estimator,
    title: str = "",
    axis_label: str = "",
    method: str = "registered by the user",
    lower_bound_above: int | float | None = None,
    counts_repeats: bool = False,
) -> None:
    """Register an estimator under a name, for configurations and the callback.

    Args:
        name: The name; letters, digits and underscores, because it becomes part of a logged key.
            A name registered before is replaced, a built-in one is not.
        function: Takes a `Geometry` (a tensor it need not accept) and returns an `Estimate`, with a
            reason instead of an exception where the rows give no number.
        title: In tables, headlines and legends; the name by default.
        axis_label: On the axis of a figure; the title by default.
        method: One phrase on how it is computed, for reports.
        lower_bound_above: The value above which the estimate is a lower bound; None for never.
        counts_repeats: Whether equal rows count as many rows.

    Raises:
        ValueError: If the name is built in, is no identifier or ends like the key of an error bar,
            or the function cannot be called.

    Example:
        >>> from lightning_id.functional import twonn_dimension
        >>> register_estimator("twonn_mle", lambda geometry: twonn_dimension(geometry, "mle"))
        >>> get_estimator("twonn_mle").__name__
        '<lambda>'
        >>> del ESTIMATORS["twonn_mle"]
    """
    if name in {spec.name for spec in _BUILT_IN}:
        raise ValueError(f"`name`: {name!r} is built in; choose another")
    if not name.isidentifier():
        raise ValueError(f"`name`: expected letters, digits and underscores, got {name!r}")
    if name.endswith(_RESERVED_ENDINGS):  # id_<name>_se/<layer> is the standard error of <name>
        raise ValueError(
            f"`name`: expected another ending than {', '.join(_RESERVED_ENDINGS)}, got {name!r}"
        )
    if not callable(function):
        raise ValueError(f"`function`: expected a function of a Geometry, got {function!r}")
    title = title or name
    ESTIMATORS[name] = EstimatorSpec(
        name, function, title, axis_label or title, method, lower_bound_above, counts_repeats
    )
