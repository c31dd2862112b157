"""The layers that `auto` picks, from the modules of a network alone: nothing is run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd

from lightning_id.recording.modules import (
    has_parameters,
    has_weights,
    is_leaf,
    is_linear,
    is_metric,
    is_transparent,
    unwrapped,
    weight_layers,
)

_POOLING = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.LPPool1d, nn.LPPool2d),
)
_ADAPTIVE = (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)
_ANY_POOLING = (*_POOLING, *_ADAPTIVE)
# Modules whose parts are not called by themselves, or only sometimes.
_UNITS = (
    *(nn.RNNBase, nn.MultiheadAttention),
    *(nn.TransformerEncoderLayer, nn.TransformerDecoderLayer),
)
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
_LONG = 1 / 4  # share of all layers with weights from which on a stage is long


def pick_layers(root: nn.Module, most: int) -> list[str]:
    """Pick at most so many layers, in order of registration: see `auto_layers`."""
    modules = {child.name: child.module for child in _all(root)}
    first = _first_embedding(root)
    inside = [name for child in _looked_at(root, "") for name in child.picks]
    picked = [*([first] if first else []), *inside]
    names = {id(modules[name]): name for name in reversed(picked)}  # of several, the first
    picked = list(dict.fromkeys(names[id(modules[name])] for name in picked))
    end = _output_layer(root, modules, picked)
    if end is not None:
        picked.append(end)
    if len(picked) > most:
        return _thinned(modules, picked, most)
    with_first_blocks = _with_first_blocks(modules, picked, _LONG * _count(root))
    return with_first_blocks if len(with_first_blocks) <= most else picked


def _thinned(modules: Mapping[str, nn.Module], picked: list[str], most: int) -> list[str]:
    """Thin layers out evenly: inside each series of transformer blocks, or if none, all."""
    series: dict[str, list[str]] = {}
    for name in picked:
        if _kind(modules[name]) is not None and not _has_conv(modules[name]):
            series.setdefault(_unnumbered(name), []).append(name)
    n_blocks = sum(map(len, series.values()))
    room = most - (len(picked) - n_blocks)
    shares = {key: room * len(names) // n_blocks for key, names in series.items()}
    if any(share < min(2, len(series[key])) for key, share in shares.items()) or not shares:
        return _evenly(picked, most)
    dropped = {name for names in series.values() for name in names}
    dropped -= {name for key, share in shares.items() for name in _evenly(series[key], share)}
    return [name for name in picked if name not in dropped]


def _evenly(names: list[str], most: int) -> list[str]:
    if most == 1:
        return names[:1]
    step = (len(names) - 1) / (most - 1)
    return [names[round(i * step)] for i in range(most)]


@dataclass
class _Child:
    """A child of a module, as `_looked_at` sees it."""

    name: str
    module: nn.Module
    is_listed: bool  # in a list of modules: one of several of its kind by design
    kind: tuple[type, ...] | None = None
    picks: list[str] = field(default_factory=list)
    has_blocks: bool = False  # whether it is one of several blocks, or holds them

    def pick_whole(self) -> None:
        self.picks, self.has_blocks = [self.name], True


def _children(module: nn.Module, prefix: str = "") -> Iterator[_Child]:
    """Yield the children of a module; of a child without an output, its own children."""
    is_list = isinstance(module, nn.ModuleList)
    for name, wrapped in unwrapped(module).named_children():
        child, full = unwrapped(wrapped), f"{prefix}.{name}".strip(".")
        if is_metric(child):
            continue
        if is_transparent(child):
            yield from _children(child, full)
        else:
            yield _Child(full, child, is_list)


def _looked_at(module: nn.Module, prefix: str) -> list[_Child]:
    """Return the children of a module, with the layers that are picked in each."""
    children = list(_children(module, prefix))
    for child in children:
        child.kind = _kind(child.module)
    kinds = [child.kind for child in children]
    series = [(child.kind, _unnumbered(child.name)) for child in children]
    for child, own_series in zip(children, series, strict=True):
        if _is_picked(child.module):
            child.picks = [child.name]
        elif child.kind is not None and (child.is_listed or series.count(own_series) > 1):
            child.pick_whole()
        elif child.kind is not None:
            inner = _looked_at(child.module, child.name)
            child.picks = [name for each in inner for name in each.picks]
            child.has_blocks = any(each.has_blocks for each in inner)
            is_alone = kinds.count(child.kind) == 1
            if not is_alone and not _is_branch(child.module, child.picks, child.name):
                child.pick_whole()
    _pick_beside_blocks(children)
    _pick_unlike(children)
    if any(child.has_blocks and _has_conv(child.module) for child in children):
        _pick_around_blocks(module, children)
    elif not any(isinstance(child.module, _ANY_POOLING) for child in children):
        _pick_widths(module, children)
    return children


def _kind(module: nn.Module) -> tuple[type, ...] | None:
    """Return the kind that repeated blocks share; None for a module that is no block."""
    if is_leaf(module) or isinstance(module, (_ConvNd, nn.Linear)) or not has_weights(module):
        return None
    # The stages of a ResNet are alike, the features and the classifier of a VGG are not.
    held = {type(child) for child in module.children()} if type(module) is nn.Sequential else set()
    return (type(module), *sorted(held, key=lambda kind: kind.__qualname__))


def _unnumbered(name: str) -> str:
    """Return what the names of the blocks of a series share."""
    return re.sub(r"\d+[a-z]?", "", name)


def _is_picked(module: nn.Module) -> bool:
    if isinstance(module, _ADAPTIVE):
        size = module.output_size
        return all(side == 1 for side in (size if isinstance(size, tuple) else (size,)))
    return isinstance(module, (*_POOLING, *_UNITS)) or is_linear(module)


def _is_branch(module: nn.Module, inner: list[str], name: str) -> bool:
    """Whether one of two siblings is a network of its own, and not a block with a few Linears."""
    if _count(module) < 2:
        return False
    only = unwrapped(module)
    while len(parts := list(_children(only))) == 1:
        only = parts[0].module
    if all(is_leaf(part.module) for part in parts):
        return True
    modules = dict(module.named_modules())
    picked = [modules.get(each.removeprefix(f"{name}.")) for each in inner]
    kinds = nn.Linear, nn.MultiheadAttention
    return any(m is None or not (isinstance(m, kinds) or is_linear(m)) for m in picked)


def _pick_beside_blocks(children: list[_Child]) -> None:
    """Pick other convolutional modules in and after a series of blocks as wholes, too."""
    blocks = [child for child in children if child.has_blocks and child.picks == [child.name]]
    if len(blocks) < 2:
        return
    kinds = {child.kind for child in blocks}
    names = {_unnumbered(child.name) for child in blocks}
    is_conv = any(_has_conv(child.module) for child in blocks)
    for i, child in enumerate(children):
        is_after = is_conv and i > children.index(blocks[0])
        is_near = is_after or _unnumbered(child.name) in names
        holds_blocks = any(_kind(m) in kinds for m in child.module.modules() if m != child.module)
        if is_near and child.kind and _has_conv(child.module) and not holds_blocks:
            child.pick_whole()


def _pick_unlike(children: list[_Child]) -> None:
    """Pick convolutional modules that repeat nothing, such as the two sides of a nested U-Net."""
    inner = [child for child in children if child.kind is not None and _has_conv(child.module)]
    if len(inner) > 1 and not all(child.picks for child in inner):
        for child in inner:
            if not child.picks:
                child.picks = [child.name]


def _pick_around_blocks(module: nn.Module, children: list[_Child]) -> None:
    """Pick the stem before the first block, unless pooling follows it, and convolutions at last."""
    blocks = [i for i, c in enumerate(children) if c.has_blocks and _has_conv(c.module)]
    stem = next((i for i in reversed(range(blocks[0])) if _is_stem(children[i].module)), None)
    if stem is not None:
        end = _end_of(children, stem, is_ordered=True)
        is_pooled = isinstance(children[end + 1].module, _ANY_POOLING)
        children[stem].picks = []
        children[end].picks = [] if is_pooled else [children[end].name]
    for i in range(blocks[-1] + 1, len(children)):
        if isinstance(children[i].module, _ConvNd):
            end = _end_of(children, i, isinstance(module, nn.Sequential))
            children[end].picks = [children[end].name]


def _pick_widths(module: nn.Module, children: list[_Child]) -> None:
    """Pick the ends of the widths of convolutions one after another."""
    convs = [i for i, child in enumerate(children) if isinstance(child.module, _ConvNd)]
    widths = [children[i].module.out_channels for i in convs]
    for i, width, next_width in zip(convs, widths, [*widths, None][1:], strict=True):
        if len(convs) > 1 and width != next_width:
            end = _end_of(children, i, isinstance(module, nn.Sequential))
            children[end].picks = [children[end].name]


def _end_of(children: list[_Child], at: int, is_ordered: bool) -> int:
    """Return where the activation of a convolution is, or its norm, or the convolution itself."""
    for i in range(at + 1, len(children)):  # only norms are known to follow in any order
        child = children[i].module
        is_plain = type(child).__module__.startswith("torch.nn.") and not has_parameters(child)
        if children[i].picks or not (isinstance(child, _NORMS) or (is_ordered and is_plain)):
            return i - 1
    return len(children) - 1


def _is_stem(module: nn.Module) -> bool:
    """Whether a module is made of convolutions, without pooling."""
    is_other = any(isinstance(each, _ANY_POOLING) or is_linear(each) for each in module.modules())
    return _has_conv(module) and not is_other


def _has_conv(module: nn.Module) -> bool:
    return any(isinstance(each, _ConvNd) for each in module.modules())


def _first_embedding(module: nn.Module, prefix: str = "") -> str | None:
    """Return the embedding that a network begins with, with all that is added to it."""
    for child in _children(module, prefix):
        if not has_parameters(child.module):
            continue
        if _embeds_patches(child.module):
            return child.name
        if has_weights(child.module):
            return _first_embedding(child.module, child.name)
        kinds = (nn.Embedding, nn.EmbeddingBag)
        is_found = any(isinstance(m, kinds) for m in child.module.modules())
        return _called_embedding(module, prefix, child) if is_found else None
    return None


def _embeds_patches(module: nn.Module) -> bool:
    """Whether a module is one convolution, and parameters such as positions that are added."""
    is_sum = any(True for _ in module.parameters(recurse=False)) and not isinstance(module, _ConvNd)
    return is_sum and _has_conv(module) and _count(module) == 1


def _called_embedding(module: nn.Module, prefix: str, first: _Child) -> str:
    """Return the name of another embedding with the weights of a first one, as in T5 and BART."""
    tied = getattr(first.module, "weight", None)
    for child in _all(module, prefix):
        is_other = child.module is not first.module and isinstance(child.module, nn.Embedding)
        if is_other and tied is not None and child.module.weight is tied:
            return child.name
    return first.name


def _output_layer(
    root: nn.Module, modules: Mapping[str, nn.Module], picked: list[str]
) -> str | None:
    """Return the layer whose output is that of the network, if it is not among the picked."""
    leaves = [name for name, module in modules.items() if _is_end(module)]
    trained = [i for i, name in enumerate(leaves) if has_parameters(modules[name])]
    ends = tuple(f"{name}." for name in picked[-1:])
    inside = [i for i, name in enumerate(leaves) if f"{name}.".startswith(ends)]
    if not trained or (inside and inside[-1] >= trained[-1]):
        return None
    name, module = "", root
    while True:
        children = [c for c in _children(module, name) if has_parameters(c.module)]
        if not children or _is_end(children[-1].module):
            return children[-1].name if children else name or None
        if len(children) > 1 and name:
            return name
        name, module = children[-1].name, children[-1].module


def _is_end(module: nn.Module) -> bool:
    return isinstance(module, _UNITS) or is_leaf(module)


def _with_first_blocks(
    modules: Mapping[str, nn.Module], picked: list[str], long: float
) -> list[str]:
    """Add the first block of the first stage of convolutions and of long ones."""
    found: list[str] = []
    is_first = True
    for name in picked:
        block = _first_block(modules[name], name)
        if block is not None and (is_first or _count(modules[name]) >= long):
            found.append(block)
        is_first &= block is None
        found.append(name)
    return found


def _all(module: nn.Module, prefix: str = "") -> Iterator[_Child]:
    for child in _children(module, prefix):
        yield child
        yield from _all(child.module, child.name)


def _first_block(stage: nn.Module, name: str) -> str | None:
    """Return the first of several convolutional blocks that a stage runs one after another."""
    if type(stage) is nn.Sequential:
        blocks = list(_children(stage, name))
        kinds = {_kind(block.module) for block in blocks}
        if len(blocks) > 1 and len(kinds) == 1 and None not in kinds and _has_conv(stage):
            return blocks[0].name
        return None
    inner = (_first_block(child.module, child.name) for child in _children(stage, name))
    return next((block for block in inner if block is not None), None)


def _count(module: nn.Module) -> int:
    return sum(weight_layers(each) for each in module.modules())
