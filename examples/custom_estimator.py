"""An estimator of your own: a function from a `Geometry` to an `Estimate`.

    python examples/custom_estimator.py

Here the slope of neighbour counts: the number of neighbours within r grows like r to the power of
the dimension, so that log(FAR / NEAR) over the mean log(r_FAR / r_NEAR) is the dimension (Pettis,
Bailey, Jain and Dubes, IEEE Transactions on Pattern Analysis and Machine Intelligence 1, 25, 1979).
"""

import math
from dataclasses import replace

from lightning_id import IntrinsicDimensionCallback
from lightning_id.functional import Estimate, Geometry, register_estimator, twonn_dimension
from lightning_id.manifolds import sphere

NEAR, FAR = 8, 32  # orders of the neighbours


def count_slope(geometry: Geometry) -> Estimate:
    estimate = geometry.estimate_of_order(FAR)  # counts, and the reason if there are too few rows
    if estimate.reason is not None:
        return estimate
    distances = geometry.neighbors(FAR).distances  # (m, FAR), repeated rows left out
    log_ratio = (distances[:, FAR - 1] / distances[:, NEAR - 1]).log().mean()
    return replace(estimate, value=math.log(FAR / NEAR) / float(log_ratio), n_used=len(distances))


register_estimator("count_slope", count_slope)
callback = IntrinsicDimensionCallback(estimators=["twonn", "count_slope"])  # id_count_slope/<layer>

geometry = Geometry(
    sphere(2000, dimension=5, ambient=40)
)  # without an edge, where neighbours are missing
print(f"count_slope {count_slope(geometry).value:.2f}")
print(f"TwoNN       {twonn_dimension(geometry).value:.2f}")
