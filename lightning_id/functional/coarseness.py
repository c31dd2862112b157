"""Notes on rows that are left out because their nearest distances tie."""

import warnings

from lightning_id.functional.geometry import Geometry

# Share of tied rows above which the estimate may be that of a grid or of coarse features. Smooth
# features in half precision have none; bfloat16 at mean 1, deviation 1, ID 2 has 0.6 % and is 25 %
# off.
TIES_WORTH_A_NOTE = 0.002


class CoarseFeaturesWarning(UserWarning):
    """Half-precision rows whose rounding shows in the nearest distances."""


def ties_note(geometry: Geometry, tied_share: float) -> str | None:
    """Return the note on ties, if any; warn where half precision is too coarse."""
    if tied_share <= TIES_WORTH_A_NOTE:
        return None
    if geometry.x.element_size() > 2:
        return (
            f"{tied_share:.1%} of the nearest distances tie and are left out: features on a grid,"
            f" or equal to within the rounding of {geometry.dtype}"
        )
    note = (
        f"{tied_share:.1%} of the nearest distances tie: {geometry.dtype} features are too coarse"
        " here, and the dimension is that of their rounding"
    )
    warnings.warn(note, CoarseFeaturesWarning, stacklevel=4)
    return note
