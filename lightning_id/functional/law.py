"""Whether neighbour ratios follow the law that TwoNN fits to them."""

import math

# The 1 % point of D sqrt(N) where the law holds, for 50 to 2000 rows that share neighbours: a
# simulation (docs/law.md). D is the Kolmogorov-Smirnov distance from the fitted law.
KS_LIMIT = 1.43
LAW_NOTE = (
    "the neighbour ratios do not follow the law of TwoNN: clusters, noise or mixed dimensions; see"
    " scale_profile and the estimator gride_plateau"
)


def is_law_broken(goodness: float, n_used: int) -> bool:
    r"""Return whether a Kolmogorov-Smirnov distance of neighbour ratios is above its 1 % point.

    One of 100 samples that follow the law is. All estimates of a run are of the same samples, so
    that their false alarms come together. The law is that of a single dimension: enough rows show a
    deviation of any data whose classes differ in dimension. Clouds that are found, and clouds that
    are not: `docs/law.md`. Noise much larger than the distance of neighbours follows the law of its
    own dimension and is not seen.

    Args:
        goodness: The distance D from the fitted law; NaN is not above.
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
