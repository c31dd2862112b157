"""Which modules are measured, under which names, in which order, at which relative depth."""

import fnmatch
import re
from collections.abc import Mapping, Sequence

from torch import nn

from lightning_id._checks import close_names
from lightning_id.recording.auto import pick_layers
from lightning_id.recording.modules import called_module, named_layers, only_child

Layers = str | Sequence[str] | Mapping[str, str]

INPUT = "input"  # pseudo-layer: the input of the network
LAST_HIDDEN = "last_hidden"  # pseudo-layer: the input of the last Linear
PSEUDO = (INPUT, LAST_HIDDEN)
AUTO = "auto"
AUTO_MOST = 16  # layers that `auto` picks at the most: as many as a chart can show


def select_layers(root: nn.Module, layers: Layers = AUTO) -> dict[str, str]:
    """Choose layers by name, pattern or `auto`.

    Args:
        root: The model.
        layers: ``"auto"``, a name, a list of them, or a mapping of names to aliases under which the
            layers are shown. A name may be exact, a glob (``"features.*"``; ``*`` crosses dots), a
            regular expression for the whole name (``"re:.*conv[12]"``), or begin with ``"!"`` to
            take out what it matches. ``"input"`` and ``"last_hidden"`` are pseudo-layers, even if
            a child of the model is so called. A name that
            matches nothing is tried below the only child that has parameters, so that ``"layer1"``
            finds ``"model.layer1"``.

    Returns:
        Name of each chosen module (or pseudo-layer) and the name it is shown under.

    Raises:
        ValueError: If a name matches nothing, two layers share an alias, or nothing is left.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> select_layers(net, ["input", "re:[02]"])
        {'input': 'input', '0': '0', '2': '2'}
        >>> select_layers(net, {"0": "hidden"})
        {'0': 'hidden'}
    """
    is_auto = is_automatic(layers)
    if isinstance(layers, Mapping):
        aliases = dict(layers)
    else:
        aliases = dict.fromkeys([layers] if isinstance(layers, str) else layers, "")
    if is_auto and AUTO not in aliases:
        aliases = {AUTO: "", **aliases}
    names = {name: module for name, module in named_layers(root).items() if name not in PSEUDO}
    chosen: dict[str, str] = {}
    for pattern, alias in aliases.items():
        matched = _match(root, names, pattern.removeprefix("!"))
        if pattern.startswith("!"):
            for name in matched:
                chosen.pop(name, None)
            continue
        if alias and len(matched) > 1:
            raise ValueError(
                f"Expected {pattern!r} to match one layer, because the alias {alias!r} names"
                f" one, got {len(matched)}: {', '.join(matched)}"
            )
        chosen |= {name: alias or chosen.get(name, name) for name in matched}
    if not chosen:
        raise ValueError(f"Expected at least one layer, got none from {layers!r}")
    _check_shown(chosen)
    return chosen


def called_modules(root: nn.Module, names: Mapping[str, str]) -> dict[str, nn.Module]:
    """Return the modules that return the outputs of chosen layers, by the names shown."""
    modules = named_layers(root)
    return {
        shown: called_module(root, modules[name])
        for name, shown in names.items()
        if name not in PSEUDO
    }


def is_automatic(layers: Layers) -> bool:
    """Return whether layers are picked by `auto`: by that name, or by exclusions alone."""
    is_names = isinstance(layers, Sequence | Mapping)
    if not is_names or not all(isinstance(name, str) for name in layers):
        raise ValueError(f"`layers`: expected names, got {layers!r}; their modules have names")
    names = [layers] if isinstance(layers, str) else list(layers)
    return AUTO in names or (bool(names) and all(name.startswith("!") for name in names))


def select_layer(root: nn.Module, argument: str, pattern: str) -> str:
    """Return the name of the one layer that the pattern of an argument matches, else raise."""
    matched = list(select_layers(root, pattern))
    if len(matched) != 1 or matched[0] == LAST_HIDDEN:
        raise ValueError(
            f"`{argument}`: expected the name of one layer, got {pattern!r}, which matches"
            f" {', '.join(matched)}"
        )
    return matched[0]


def is_named(name: str, layers: Layers) -> bool:
    """Whether a pseudo-layer is chosen by its own name, and not by `auto`."""
    return name == layers or (isinstance(layers, (Sequence, Mapping)) and name in layers)


def auto_layers(root: nn.Module) -> list[str]:
    """Pick the layers that Ansuini et al. (2019) measured, for any network.

    The input, the pooling layers, the ends of stages of repeated blocks, the fully connected layers
    and the output; where there are none of them, the ends of the widths of stacked convolutions;
    recurrent layers, and the embedding where the network begins with one. Of networks of
    convolutional blocks also the stem, and the first block of the first and of any long stage. What
    is inside of blocks is not looked at. Branches of one class (student and teacher, encoder and
    decoder) are looked into each. More than sixteen are thinned out evenly; of a
    transformer the first and the last block stay.

    Args:
        root: The model.

    Returns:
        Names in order of registration.
    """
    return [INPUT, *(name for name in pick_layers(root, AUTO_MOST - 1) if name not in PSEUDO)]


def _check_shown(chosen: Mapping[str, str]) -> None:
    """Raise where two layers would share a name."""
    for name, alias in chosen.items():
        if alias in PSEUDO and name != alias:
            raise ValueError(
                f"Expected another alias of {name!r} than {alias!r}, which is kept for what the"
                f" {'network' if alias == INPUT else 'last Linear'} is given"
            )
    shown = list(chosen.values())
    twice = sorted({name for name in shown if shown.count(name) > 1})
    if twice:
        raise ValueError(f"Expected every layer under a name of its own, got {twice} twice")


def _match(root: nn.Module, names: Mapping[str, nn.Module], pattern: str) -> list[str]:
    if pattern in PSEUDO:
        return [pattern]
    if pattern == AUTO and pattern not in names:
        return auto_layers(root)
    wrapped = only_child(root)
    prefixes = ("", f"{wrapped}.") if wrapped else ("",)
    for prefix in prefixes:
        matched = [
            name
            for name in names
            if name.startswith(prefix) and _matches(name.removeprefix(prefix), pattern)
        ]
        if matched:
            return matched
    raise ValueError(
        f"No layer of {type(root).__name__} matches {pattern!r}.{close_names(pattern, names)}"
        f" Names: {', '.join([INPUT, LAST_HIDDEN, *names])}"
    )


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("re:"):
        try:
            return re.fullmatch(pattern.removeprefix("re:"), name) is not None
        except re.error as error:
            raise ValueError(
                f"`layers`: expected a regular expression after 're:', got {pattern!r}: {error}"
            ) from None
    return name == pattern or fnmatch.fnmatchcase(name, pattern)
