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
        >>> close_names("layr1", ["net.layer1", "head"])
        " Close: 'net.layer1'."
    """
    # Whole names, and what they are from each dot on.
    ends = {
        ".".join(each.split(".")[i:]): each for each in known for i in range(each.count(".") + 1)
    }
    close = difflib.get_close_matches(name, ends, n=5, cutoff=0.5)
    found = dict.fromkeys(ends[end] for end in close)
    return f" Close: {', '.join(map(repr, found))}." if found else ""
