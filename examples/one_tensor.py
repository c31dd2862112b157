"""The dimension of one tensor: a sheet rolled up in three dimensions, seen in 100 coordinates.

    python examples/one_tensor.py

It has two dimensions, PCA finds three because it is curved.
"""

from lightning_id.functional import Geometry, pca_dimension, scale_profile, twonn_dimension
from lightning_id.manifolds import swiss_roll

x = swiss_roll(2000, ambient=100, seed=0)
geometry = Geometry(x)  # the distances, computed once for all that follows

twonn = twonn_dimension(geometry)
print(f"TwoNN {twonn.value:.2f} ± {twonn.std_error:.2f} of {x.shape[1]} coordinates")
print(f"PCA   {pca_dimension(geometry).value:.0f} components hold 90 % of the variance")

profile = scale_profile(geometry)  # a number to trust does not depend on the scale
for scale, estimate in zip(profile.scales, profile.gride, strict=True):
    print(f"Gride {estimate.value:.2f} ± {estimate.std_error:.2f} at distance {scale:.3f}")
