"""Which modules are measured, under which names, in which order, at which relative depth."""

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd
from torch.nn.parameter import is_lazy

from lightning_id.hooks import takes_hooks
from lightning_id.messages import close_names

Layers = str | Sequence[str] | Mapping[str, str]

INPUT = "input"  # pseudo-layer: what the network is given
LAST_HIDDEN = "last_hidden"  # pseudo-layer: what the last Linear is given
PSEUDO = (INPUT, LAST_HIDDEN)
AUTO = "auto"
AUTO_MOST = 16  # layers that `auto` picks at the most: what a chart still shows apart

# Wrappers by their class, and the children that they hold the wrapped module in: configs and curves
# must survive compile on or off. By name, because importing them all takes seconds.
_WRAPPERS = {
    "torch._dynamo.eval_frame.OptimizedModule": ("_orig_mod",),
    "torch.nn.parallel.data_parallel.DataParallel": ("module",),
    "torch.nn.parallel.distributed.DistributedDataParallel": ("module",),
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": (
        "_fsdp_wrapped_module",
    ),
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper": (
        "_checkpoint_wrapped_module",
    ),
    "torch.optim.swa_utils.AveragedModel": ("module",),
    "lightning_fabric.wrappers._FabricModule": ("_forward_module", "_original_module"),
    "lightning.fabric.wrappers._FabricModule": ("_forward_module", "_original_module"),
}
_METRIC = "torchmetrics.metric.Metric"
_UNWEIGHTED = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)  # despite their matrices
_POOLING = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.LPPool1d, nn.LPPool2d),
)
_ADAPTIVE = (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)


def named_layers(root: nn.Module) -> dict[str, nn.Module]:
    """Return every module below ``root`` by name, without the components that wrappers add.

    Args:
        root: The model.

    Returns:
        Names and modules in order of registration. A wrapper and its wrapped module share a name:
        the wrapper is returned, because it is called. A module that is registered twice has both
        names.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.DataParallel(nn.Sequential(nn.ReLU())))
        >>> list(named_layers(net))
        ['0', '1', '1.0']
    """
    names: dict[str, nn.Module] = {}
    for name, module in _walk(root, ""):
        if name:
            names.setdefault(name, module)
    return names


def _walk(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    yield name, module
    wrapped = _wrapped_in(module)
    for part, child in module._modules.items():  # `named_children` leaves second names out
        if child is None:
            continue
        yield from _walk(child, name if part in wrapped else f"{name}.{part}".strip("."))


def _wrapped_in(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the children that a wrapper wraps; none of any other module."""
    return next((_WRAPPERS[each] for each in _classes(module) if each in _WRAPPERS), ())


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside of all wrappers."""
    while wrapped := _wrapped_in(module):
        module = module.get_submodule(wrapped[0])
    return module


def watched_modules(root: nn.Module) -> list[nn.Module]:
    """Return the modules that can be followed by hooks: no scripted ones, and no metrics."""
    hidden = {
        id(inner)
        for module in root.modules()
        if not takes_hooks(module) or _METRIC in _classes(module)
        for inner in module.modules()
    }
    return [module for module in root.modules() if id(module) not in hidden]


def weight_layers(module: nn.Module) -> int:
    """Return how many layers with a weight matrix on features a module is, without its children."""
    if isinstance(module, (_ConvNd, nn.Linear)):
        return 1
    if isinstance(module, nn.RNNBase):
        return module.num_layers
    is_leaf = next(module.children(), None) is None
    return int(is_leaf and any(name.startswith("weight") for name in _matrices(module)))


def has_weights(module: nn.Module) -> bool:
    """Whether a module, or one inside, has a matrix of weights that is no embedding and no norm."""
    return any(True for inner in module.modules() for _ in _matrices(inner))


def _matrices(module: nn.Module) -> Iterator[str]:
    """Yield the names of a module's own parameters of two axes or more."""
    if not isinstance(module, _UNWEIGHTED):
        for name, parameter in module.named_parameters(recurse=False):
            if not is_lazy(parameter) and parameter.ndim > 1:
                yield name


def _classes(module: nn.Module) -> list[str]:
    return [f"{each.__module__}.{each.__qualname__}" for each in type(module).__mro__]


def select_layers(root: nn.Module, layers: Layers = AUTO) -> dict[str, str]:
    """Choose layers by name, pattern or `auto`.

    Args:
        root: The model.
        layers: ``"auto"``, a name, a list of them, or a mapping of names to aliases under which the
            layers are shown. A name may be exact, a glob (``"features.*"``; ``*`` crosses dots), a
            regular expression for the whole name (``"re:.*conv[12]"``), or begin with ``"!"`` to
            take out what it matches. ``"input"`` and ``"last_hidden"`` are pseudo-layers, even if
            a child of the model is so called. What
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
    if isinstance(layers, Mapping):
        aliases = dict(layers)
    elif isinstance(layers, str):
        aliases = {layers: ""}
    elif isinstance(layers, Sequence) and all(isinstance(name, str) for name in layers):
        aliases = dict.fromkeys(layers, "")
    else:
        raise ValueError(f"`layers`: expected names, got {layers!r}; their modules have names")
    if AUTO not in aliases and is_automatic(layers):
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


def is_automatic(layers: Layers) -> bool:
    """Return whether layers are picked by `auto`: by that name, or by exclusions alone."""
    names = [layers] if isinstance(layers, str) else list(layers)
    return AUTO in names or (bool(names) and all(name.startswith("!") for name in names))


def select_layer(root: nn.Module, argument: str, pattern: str) -> str:
    """Choose one layer.

    Args:
        root: The model.
        argument: What the pattern was given as, for the message.
        pattern: As for `select_layers`.

    Returns:
        Its name.

    Raises:
        ValueError: If the pattern matches no layer, or more than one.
    """
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
    """Pick the layers that the source work measured, for any network.

    The input, the pooling layers, the ends of stages of repeated blocks, the fully connected layers
    and with them the output. Repeated blocks are children of one kind; what is inside them is not
    looked at. Adaptive pooling counts where it pools to one value (torchvision's VGG puts one that
    changes nothing before the classifier). More than sixteen are thinned out evenly.

    Args:
        root: The model.

    Returns:
        Names in order of registration.
    """
    picked = [name for name in _pick(root, "") if name not in PSEUDO]
    modules = named_layers(root)
    if not picked or not isinstance(modules[picked[-1]], nn.Linear):
        wrapped = _only_child(root)
        if wrapped and wrapped not in picked:
            picked.append(wrapped)  # its output is the network's
    room = AUTO_MOST - 1
    if len(picked) > room:
        step = (len(picked) - 1) / (room - 1)
        picked = [picked[round(i * step)] for i in range(room)]
    return [INPUT, *picked]


def _check_shown(chosen: Mapping[str, str]) -> None:
    """Refuse names that would tell two layers by one."""
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
    wrapped = _only_child(root)
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


def _only_child(root: nn.Module) -> str | None:
    """Return the name of the only child with parameters and children, if there is one."""
    children = [
        name
        for name, child in _unwrapped(root).named_children()
        if any(True for _ in child.parameters())
    ]
    return children[0] if len(children) == 1 else None


def _pick(module: nn.Module, prefix: str) -> Iterator[str]:
    children = {name: _unwrapped(child) for name, child in _unwrapped(module).named_children()}
    kinds = [_kind(child) for child in children.values()]
    for (name, child), kind in zip(children.items(), kinds, strict=True):
        full = f"{prefix}.{name}".strip(".")
        is_block = kind is not None and kinds.count(kind) > 1
        if is_block or _is_picked(child):
            yield full
        else:
            yield from _pick(child, full)


def _kind(module: nn.Module) -> tuple[type, ...] | None:
    """Return what repeated blocks have in common; None for what is no block.

    A Sequential is told by what it holds: the stages of a ResNet are alike, the features and the
    classifier of a VGG are not.
    """
    if not any(True for _ in module.children()) or not any(True for _ in module.parameters()):
        return None
    held = {type(child) for child in module.children()} if type(module) is nn.Sequential else set()
    return (type(module), *sorted(held, key=lambda kind: kind.__qualname__))


def _is_picked(module: nn.Module) -> bool:
    if isinstance(module, _ADAPTIVE):
        size = module.output_size
        return all(side == 1 for side in (size if isinstance(size, tuple) else (size,)))
    return isinstance(module, (*_POOLING, nn.Linear))
