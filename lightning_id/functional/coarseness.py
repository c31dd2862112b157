"""What to say of half-precision rows that are too coarse for their nearest distances."""

import warnings

from lightning_id.functional.geometry import Geometry

# Share of tied rows above which coarse features, not geometry, may be measured. Smooth features in
# half precision have none; bfloat16 at mean 1, deviation 1, ID 2 has 0.6 % and is 25 % off.
TIES_WORTH_A_NOTE = 0.002


class CoarseFeaturesWarning(UserWarning):
    """Half-precision rows whose rounding shows in the nearest distances."""


def coarseness_note(geometry: Geometry, tied_share: float) -> str | None:
    """Return, and warn of, what is to say of half-precision rows whose nearest distances tie.

    Args:
        geometry: The rows.
        tied_share: Share of the distinct rows that were left out for a tie.

    Returns:
        The note, or None if there is nothing to say.
    """
    if geometry.x.element_size() > 2 or tied_share <= TIES_WORTH_A_NOTE:
        return None
    note = (
        f"{tied_share:.1%} of the nearest distances tie: {geometry.dtype} features are too coarse"
        " here, and the dimension is that of their rounding"
    )
    warnings.warn(note, CoarseFeaturesWarning, stacklevel=3)
    return note
