"""Estimators by name: what a configuration file can ask for, and how to add one."""

from collections.abc import Callable
from functools import partial

from lightning_id.functional.estimate import Estimate
from lightning_id.functional.gaussian import gaussian_twonn_dimension
from lightning_id.functional.geometry import Geometry
from lightning_id.functional.gride import gride_dimension
from lightning_id.functional.mle import mle_dimension
from lightning_id.functional.pca import effective_rank, participation_ratio, pca_dimension
from lightning_id.functional.twonn import twonn_dimension

Estimator = Callable[[Geometry], Estimate]

_BUILT_IN: dict[str, Estimator] = {
    "twonn": twonn_dimension,
    "twonn_gaussian": gaussian_twonn_dimension,
    "pca": pca_dimension,
    "pca_standardized": partial(pca_dimension, standardize=True),  # that of the source work
    "gride": gride_dimension,
    "mle": mle_dimension,
    "participation_ratio": participation_ratio,
    "effective_rank": effective_rank,
}
_TAKEN = ("_se", "_per_class", "_per_class_sd")  # endings of logged keys
ESTIMATORS: dict[str, Estimator] = dict(_BUILT_IN)


def get_estimator(name: str) -> Estimator:
    """Return the estimator of that name, with its default arguments but for what the name says.

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
    if name not in ESTIMATORS:
        raise ValueError(
            f"no estimator named {name!r}; there are {', '.join(sorted(ESTIMATORS))};"
            " lightning_id.functional.register_estimator adds one"
        )
    return ESTIMATORS[name]


def register_estimator(name: str, function: Estimator) -> None:
    """Make an estimator available under a name, to configurations and to the callback.

    Args:
        name: The name; letters, digits and underscores, because it becomes part of a logged key.
            A name registered before is replaced, a built-in one is not.
        function: Takes a `Geometry` (a tensor it need not accept) and returns an `Estimate`, with a
            reason instead of an exception where the rows give no number.

    Raises:
        ValueError: If the name is built in, is no identifier or ends like the key of an error bar,
            or what is given cannot be called.

    Example:
        >>> from lightning_id.functional import twonn_dimension
        >>> register_estimator("twonn_mle", lambda geometry: twonn_dimension(geometry, "mle"))
        >>> get_estimator("twonn_mle").__name__
        '<lambda>'
        >>> del ESTIMATORS["twonn_mle"]
    """
    if name in _BUILT_IN:
        raise ValueError(f"`name`: {name!r} is built in; choose another")
    if not name.isidentifier():
        raise ValueError(f"`name`: expected letters, digits and underscores, got {name!r}")
    if name.endswith(_TAKEN):  # id_<name>_se/<layer> is the standard error of <name>
        raise ValueError(f"`name`: expected another ending than {', '.join(_TAKEN)}, got {name!r}")
    if not callable(function):
        raise ValueError(f"`function`: expected a function of a Geometry, got {function!r}")
    ESTIMATORS[name] = function
