"""Checks of arguments, texts shared by error messages, shipped configurations, versions."""

import difflib
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDERS = (HERE / "configs", HERE.parent / "configs")  # of a wheel, of a clone


def whole_number(name: str, value: Any, least: int, why: str = "") -> int:
    """Return an argument that is a whole number of at least `least`; else raise ValueError."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"`{name}`: expected a whole number, got {value!r}")
    if value < least:
        raise ValueError(
            f"`{name}`: expected at least {least}, got {value}" + f"; {why}" * bool(why)
        )
    return int(value)


def positive(name: str, value: Any, unit: str) -> float:
    """Return an argument that is a number above 0, of a unit; else raise ValueError."""
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__") or not value > 0:
        raise ValueError(f"`{name}`: expected {unit} above 0, got {value!r}")
    return float(value)


def class_given(name: str, cls: type) -> str:
    """Return the message on a class in place of an instance."""
    return (
        f"`{name}`: expected an instance, got the class {cls.__name__}; write {cls.__name__}(...)"
    )


def close_names(name: str, known: Iterable[str]) -> str:
    """Return the sentence of an error on the known names that resemble a name; empty without any.

    >>> close_names("layr1", ["net.layer1", "head"])
    " Close: 'net.layer1'."
    """
    # Whole names, and their ends from each dot on.
    ends = {
        ".".join(each.split(".")[i:]): each for each in known for i in range(each.count(".") + 1)
    }
    close = difflib.get_close_matches(name, ends, n=5, cutoff=0.5)
    found = dict.fromkeys(ends[end] for end in close)
    return f" Close: {', '.join(map(repr, found))}." if found else ""


def kind_of(text: str, name: str | None = None) -> str:
    """Return a message without its numbers and the name of its layer: equal for equal causes.

    >>> kind_of("expected 48 samples, got 96 rows; see 'net.0'", "net.0")
    "expected … samples, got … rows; see '…'"
    """
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "…", text.replace(name, "…") if name else text)


def listed(items: Iterable[str], most: int = 6) -> str:
    """Return the first items as text, and the number of the others.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    every = list(items)
    more = len(every) - most
    return ", ".join(every[:most]) + (f" and {more} more" if more > 0 else "")


def on_layers(texts: Sequence[tuple[str, str]], n_layers: int) -> str:
    """Return one message for layers whose messages, in `texts`, have the same cause.

    >>> on_layers([("a", "called 2 times"), ("b", "called 2 times")], 5)
    "layers 'a', 'b': called 2 times"
    >>> on_layers([("a", "got 3 rows"), ("b", "got 4 rows")], 2)
    "layer 'a': got 3 rows; the same, with other numbers, in 'b'"
    """
    first = texts[0][1]
    equal = [name for name, text in texts if text == first]
    others = [name for name, text in texts if text != first]
    if len(equal) == n_layers > 1:
        where = f"all {n_layers} layers"
    else:
        where = f"layer{'s' * (len(equal) > 1)} {listed(map(repr, equal))}"
    rest = f"; the same, with other numbers, in {listed(map(repr, others))}" if others else ""
    return f"{where}: {first}{rest}"


def find_config(name: str) -> str:
    """Return an existing path as it is, else that of a shipped configuration, else the name.

    >>> Path(find_config("mnist.yaml")).parent.name
    'configs'
    >>> find_config("mine.yaml")
    'mine.yaml'
    """
    shipped = [folder / name for folder in FOLDERS if (folder / name).is_file()]
    return name if Path(name).exists() or not shipped else str(shipped[0])


def how_to_install(extra: str) -> str:
    """Return the commands that install an extra of this package."""
    return f'pip install "lightning-id[{extra}]", from a clone pip install ".[{extra}]"'


def version_of(package: str) -> str:
    """Return the version of an installed package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown (not installed)"
