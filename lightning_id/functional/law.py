"""Whether neighbour ratios follow the law that TwoNN fits to them."""

import math

# One run makes some hundred estimates, so the limit of one is the 0.05 % point of D sqrt(N), the
# Kolmogorov-Smirnov distance of N neighbour ratios from the law of their own fit: 0.02 to 0.08 %
# of 6000 clouds of 100 rows, uniform in 1 to 5 dimensions, are above it with the linear fit, 0 to
# 0.02 % with the censored one. The 1 % point is 1.37 to 1.43. examples/law.py simulates both.
KS_LIMIT = 1.8
LAW_NOTE = (
    "the neighbour ratios do not follow the law of TwoNN: clusters, noise or mixed dimensions; see"
    " scale_profile and the estimator gride_plateau"
)


def is_law_broken(goodness: float, n_used: int) -> bool:
    r"""Return whether a Kolmogorov-Smirnov distance of neighbour ratios is above its 0.05 % point.

    One of 2000 clouds that follow the law is, so a run of 100 estimates has a false alarm in one of
    20. On balls, spheres, tori and Gaussians of 2 to 100 dimensions D sqrt(N) is 0.6 to 0.9 as a
    rule and 1.62 at most (768 clouds of 1000 or 2000 rows); with untrained tokens it is 25, half
    2-d and half 20-d 6 to 9, with a twentieth of near-duplicates 3 to 5, on a plane whose noise is
    as large as the distance of neighbours about 1.9. Larger noise follows a law of its own and is
    not seen: 0.9.

    Args:
        goodness: The distance; NaN is not above.
        n_used: Ratios, N.

    Returns:
        Whether :math:`D \sqrt N > 1.8`.

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
