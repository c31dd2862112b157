"""Checks of arguments that come from a person or a configuration file."""

from typing import Any


def whole_number(name: str, value: Any, least: int) -> int:
    """Return a whole number, if it is one.

    Args:
        name: What the argument is called.
        value: What was given.
        least: The smallest that will do.

    Returns:
        The number.

    Raises:
        ValueError: If it is something else, or below.

    Example:
        >>> whole_number("n_samples", 2000, least=1)
        2000
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"`{name}`: expected a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"`{name}`: expected at least {least}, got {value}")
    return int(value)


def positive(name: str, value: Any, unit: str) -> float:
    """Return a number above zero, if it is one.

    Args:
        name: What the argument is called.
        value: What was given.
        unit: What it counts.

    Returns:
        The number.

    Raises:
        ValueError: If it is something else, or not above zero.

    Example:
        >>> positive("memory_limit", 0.5, "GiB")
        0.5
    """
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__") or not value > 0:
        raise ValueError(f"`{name}`: expected {unit} above 0, got {value!r}")
    return float(value)
