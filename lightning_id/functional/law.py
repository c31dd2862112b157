"""Whether neighbour ratios follow the law that TwoNN fits to them."""

import math

# The 1 % point of D sqrt(N), the Kolmogorov-Smirnov distance of N neighbour ratios from the law of
# their own fit, uniform in 1 to 5 dimensions: 1.40 to 1.43 for 50 to 1000 rows and the linear fit,
# 1.33 to 1.37 for the censored one. examples/law.py simulates it. Independent ratios: 1.33.
KS_LIMIT = 1.43
LAW_NOTE = (
    "the neighbour ratios do not follow the law of TwoNN: clusters, noise or mixed dimensions; see"
    " scale_profile and the estimator gride_plateau"
)


def is_law_broken(goodness: float, n_used: int) -> bool:
    r"""Return whether a Kolmogorov-Smirnov distance of neighbour ratios is above its 1 % point.

    Args:
        goodness: The distance; NaN is not above.
        n_used: Ratios, N.

    Returns:
        Whether :math:`D \sqrt N > 1.43`.

    Example:
        >>> from lightning_id import manifolds
        >>> from lightning_id.functional import is_law_broken, twonn_dimension
        >>> for x in (manifolds.ball(1000, 5), manifolds.mixture(1000, (2, 20))):
        ...     estimate = twonn_dimension(x)
        ...     print(is_law_broken(estimate.goodness, estimate.n_used))
        False
        True
    """
    return goodness * math.sqrt(n_used) > KS_LIMIT
