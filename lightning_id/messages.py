"""What several error messages say alike."""

import difflib
from collections.abc import Iterable


def close_names(name: str, known: Iterable[str]) -> str:
    """Return the sentence of a message on a name that is not known: those that look like it.

    Args:
        name: What was given.
        known: All that would have been right.

    Returns:
        The sentence after a space; empty if nothing looks like it.

    Example:
        >>> close_names("widht", ["width", "depth"])
        " Close: 'width'."
    """
    found = difflib.get_close_matches(name, list(known), n=5, cutoff=0.5)
    return f" Close: {', '.join(map(repr, found))}." if found else ""
