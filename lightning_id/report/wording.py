"""Wording shared by the findings: values, layers, lists."""

from collections.abc import Sequence

from lightning_id._checks import listed
from lightning_id.figures._data import shortened
from lightning_id.history import Estimated
from lightning_id.history.tables import value_with_error

NAME_LENGTH = 60  # letters of a name in a sentence


def at(record: Estimated) -> str:
    """Return value, 95 % bar and layer of a record."""
    return f"{value_with_error(record)} at {short(record['layer'])}"


def names(layers: Sequence[str]) -> str:
    """Return the first names of a list, and the number of the others."""
    return listed(map(short, layers))


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.0f} %"


def short(layer: str) -> str:
    """Return a name for a sentence; the table has it whole."""
    return shortened(layer, NAME_LENGTH)
