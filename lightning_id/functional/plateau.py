"""The dimension where it does not depend on the scale: the flat part of the Gride profile."""

import math
from dataclasses import replace

from torch import Tensor

from lightning_id.functional.estimate import Estimate
from lightning_id.functional.geometry import Geometry, geometry_of
from lightning_id.functional.scale import ScaleProfile, scale_profile


def gride_plateau_dimension(
    x: Tensor | Geometry, max_order: int = 64, flat_tolerance: float = 0.1
) -> Estimate:
    """Return the mean of the Gride dimensions of the flat part of the scale profile of ``x``.

    Noise inflates the nearest orders, bends and borders spoil the farthest; where the profile is
    flat between, one number describes the rows: see `scale_profile` for the orders and for what
    counts as flat. The ``note`` names the orders. Where TwoNN's own note doubts its law, this is
    the number to look at next, or the reason why there is none.

    The error bar is the mean of the bars of the flat part: too large (1.1 to 2.7 times the
    deviation over fresh balls, spheres, tori and noisy planes of 1000 and 2000 rows), because the
    estimates do not err together, and because far orders have bars that are too large.

    Args:
        x: (n, d) rows of any floating dtype on any device, or a `Geometry` made from them.
        max_order: Largest n2, at least 2.
        flat_tolerance: Share by which the largest may exceed the smallest estimate of a flat run.

    Returns:
        The dimension (not rounded), standard error, 95 % interval and counts, of the nearest
        orders of the flat part. NaN with a reason where no part is flat, and where there are too
        few distinct rows for three orders.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor, or an argument is out of its range.

    Example:
        >>> from lightning_id import manifolds
        >>> from lightning_id.functional import gride_plateau_dimension
        >>> estimate = gride_plateau_dimension(manifolds.torus(1000, 2))
        >>> print(f"{estimate.value:.2f} +- {estimate.std_error:.2f}, {estimate.note}")
        1.96 +- 0.05, flat from order 1 to 32
    """
    geometry = geometry_of(x)
    profile = scale_profile(geometry, max_order, blocks=(), flat_tolerance=flat_tolerance)
    if profile.flat is None:
        estimate = geometry.estimate(distinct=True)
        return replace(estimate, reason=estimate.reason or _why_not_flat(profile))
    first, last = profile.flat
    run = profile.gride[first : last + 1]
    value = sum(estimate.value for estimate in run) / len(run)
    std_error = sum(estimate.std_error for estimate in run) / len(run)
    (near, _), (_, far) = profile.orders[first], profile.orders[last]
    return run[0].with_value(
        value,
        std_error,
        goodness=math.nan,
        note=f"flat from order {near} to {far}",
        influence=None,
    )


def _why_not_flat(profile: ScaleProfile) -> str:
    values = [
        f"{estimate.value:.3g}" for estimate in profile.gride if not math.isnan(estimate.value)
    ]
    if len(values) < len(profile.gride) and len(values) < 3:
        return f"expected three orders with an estimate, got {len(values)}: too few distinct rows"
    return f"no three orders agree: Gride has {', '.join(values)} from near to far"
