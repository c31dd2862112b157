"""Checks of arguments, texts shared by error messages, shipped configurations, versions."""

import difflib
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# A wheel has them inside of the package, a clone beside it.
FOLDERS = (HERE / "configs", HERE.parent / "configs")


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


def kind_of(text: str, name: str | None = None) -> str:
    """Return a message without its numbers and the name of its layer: equal for equal causes.

    Example:
        >>> kind_of("expected 48 samples, got 96 rows; see 'net.0'", "net.0")
        "expected … samples, got … rows; see '…'"
    """
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "…", text.replace(name, "…") if name else text)


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names as text, the first few of them.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        "'a', 'b' and 1 more"
    """
    more = len(names) - most
    return ", ".join(map(repr, names[:most])) + (f" and {more} more" if more > 0 else "")


def on_layers(texts: Sequence[tuple[str, str]], n_layers: int) -> str:
    """Return one message for layers that have the same cause.

    Args:
        texts: Layers and their messages, which are of one kind.
        n_layers: How many layers are measured.

    Returns:
        The message of the first, and which layers it holds for.

    Example:
        >>> on_layers([("a", "called 2 times"), ("b", "called 2 times")], 5)
        "layers 'a', 'b': called 2 times"
        >>> on_layers([("a", "got 3 rows"), ("b", "got 4 rows")], 2)
        "layer 'a': got 3 rows; the same, with other numbers, in 'b'"
    """
    names, first = [name for name, _ in texts], texts[0][1]
    alike = [name for name, text in texts if text == first]
    if len(alike) == n_layers > 1:
        where = f"all {n_layers} layers"
    else:
        where = f"layer{'s' * (len(alike) > 1)} {listed(alike)}"
    others = [name for name in names if name not in alike]
    rest = f"; the same, with other numbers, in {listed(others)}" if others else ""
    return f"{where}: {first}{rest}"


def find_config(name: str) -> str:
    """Return the path of a shipped configuration file, or the name itself if there is none.

    Args:
        name: A path, which is taken if it exists, or the name of a shipped file such as
            ``"mnist.yaml"``.

    Returns:
        A path.

    Example:
        >>> Path(find_config("mnist.yaml")).parent.name
        'configs'
        >>> find_config("mine.yaml")
        'mine.yaml'
    """
    shipped = [folder / name for folder in FOLDERS if (folder / name).is_file()]
    return name if Path(name).exists() or not shipped else str(shipped[0])


def version_of(package: str) -> str:
    """Return the version of an installed package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown (not installed)"
