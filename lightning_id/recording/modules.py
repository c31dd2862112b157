"""The modules of a network: their names without wrappers, their weights, which are called."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from lightning_id.recording.hooks import takes_hooks

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
_ADDS_TO_BATCH = "tensordict.nn.common.TensorDictModuleBase"  # its output is the batch it is given
_FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
_UNWEIGHTED = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)  # despite their matrices


def named_layers(root: nn.Module) -> dict[str, nn.Module]:
    """Return every module below ``root`` by its names, without the parts that wrappers add."""
    # A wrapper and its wrapped module share a name: the wrapper is returned, because it is called.
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


def unwrapped(module: nn.Module) -> nn.Module:
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
    return int(is_leaf(module) and any(name.startswith("weight") for name in _matrices(module)))


def is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies by a matrix and may add a bias: a Linear of any package."""
    if isinstance(module, nn.Linear):
        return True
    # Known by their parameters: a matrix `weight`, at most a vector `bias`, no children.
    own = {name: each.ndim for name, each in module.named_parameters() if not is_lazy(each)}
    is_plain = own in ({"weight": 2}, {"weight": 2, "bias": 1})
    return is_plain and not isinstance(module, _UNWEIGHTED) and is_leaf(module)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module has no children."""
    return next(module.children(), None) is None


def has_parameters(module: nn.Module) -> bool:
    """Whether a module, or one inside, has any parameters."""
    return next(module.parameters(), None) is not None


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the first parameter of a module; the CPU without one."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


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


def is_metric(module: nn.Module) -> bool:
    """Whether a module is a metric of torchmetrics, which may hold a network of its own."""
    return _METRIC in _classes(module)


def is_transparent(module: nn.Module) -> bool:
    """Whether a module has no output of its own: a container, or one that adds to a mapping."""
    return is_container(module) or _ADDS_TO_BATCH in _classes(module)


def is_container(module: nn.Module) -> bool:
    """Whether a module has no forward of its own, such as a list of modules: it is never called."""
    written = (vars(each)["forward"] for each in type(module).__mro__ if "forward" in vars(each))
    return next(written) is nn.Module.forward and "forward" not in vars(module)


def only_child(root: nn.Module) -> str | None:
    """Return the name of the only child with parameters, if there is one."""
    children = [name for name, each in unwrapped(root).named_children() if has_parameters(each)]
    return children[0] if len(children) == 1 else None


def called_module(root: nn.Module, module: nn.Module) -> nn.Module:
    """Return the module whose output is that of a module, and which is called if any of it is."""
    # Code may run the modules of a Sequential one after another, without the Sequential: its output
    # is that of its last module, as long as that stands nowhere else in the network.
    while type(module) is nn.Sequential and len(module) and not module._forward_hooks:
        last = module[-1]
        if not takes_hooks(last) or sum(each is last for _, each in _walk(root, "")) > 1:
            break
        module = last
    return module


def why_never_called(root: nn.Module, module: nn.Module) -> str:
    """Return the likely reason why a module was not called in a forward pass."""
    if is_container(unwrapped(module)):
        return (
            f"{type(unwrapped(module)).__name__} has no forward of its own and is never called;"
            " name the modules in it"
        )
    around = [m for m in root.modules() if isinstance(m, _FUSED) and m is not module]
    if any(inner is module for each in around for inner in each.modules()):
        return (
            "the layer was never called: a fused kernel runs in place of the modules of an"
            " attention block; name the block"
        )
    return "the layer was never called in this forward pass; name one that the validation step runs"
