"""Which axis of a layer's output holds the samples and which the features, by its modules.

- Recurrent and attention modules of PyTorch have ``batch_first``, which holds for their children.
- A convolution or batch norm has its channels along axis 1, a Linear or layer norm along the last
  axis. A block has the axes of the last module in it whose width fits; a module without any, such
  as an activation, the axes of its parent.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _LPPoolNd,
    _MaxPoolNd,
)

from lightning_id.recording.batches import side_of_decoder
from lightning_id.recording.modules import is_leaf

_TRANSFORMERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_STACKS = (nn.TransformerEncoder, nn.TransformerDecoder)
_SPATIAL = (
    *(_ConvNd, _NormBase, nn.GroupNorm),
    *(_MaxPoolNd, _AvgPoolNd, _LPPoolNd, _AdaptiveMaxPoolNd, _AdaptiveAvgPoolNd),
)
_WIDTHS = (
    *("out_channels", "num_features", "num_channels"),
    *("out_features", "in_features", "embedding_dim", "normalized_shape"),
)

FeatureAxis = Literal[1, -1]


class Axes:
    """The axes of the outputs of the modules below a root; without one, modules have no parents."""

    def __init__(self, root: nn.Module | None) -> None:
        self.side_of_decoder = side_of_decoder(root)
        self._parents: dict[nn.Module, nn.Module] = {}
        self._features: dict[tuple[int, tuple[int, ...]], tuple[FeatureAxis | None, bool]] = {}
        for parent in () if root is None else root.modules():
            for child in parent.children():
                self._parents.setdefault(child, parent)

    def of_samples(
        self, module: nn.Module, shape: tuple[int, ...], fits: Callable[[int], bool]
    ) -> tuple[Literal[0, 1], bool]:
        """Return the axis of the samples in an output, and whether the other one is as likely."""
        if len(shape) < 3 or isinstance(module, _SPATIAL):
            return 0, False
        batch_first = self._batch_first(module)
        if not fits(shape[1]) or batch_first:
            return 0, False
        if batch_first is False:
            return 1, False
        if fits(shape[0]):
            # Axis 1 of a map is that of the channels or of the height.
            return 0, len(shape) == 3 and not _contains(module, batch_first=True)
        return (1, False) if _contains(module, batch_first=False) else (0, False)

    def of_features(
        self, module: nn.Module, shape: tuple[int, ...]
    ) -> tuple[FeatureAxis | None, bool]:
        """Return the axis of the features, if any fits, and whether the other one is as likely."""
        key = id(module), shape[1:]
        if key not in self._features:
            self._features[key] = self._find_features(module, shape)
        return self._features[key]

    def _find_features(
        self, module: nn.Module, shape: tuple[int, ...]
    ) -> tuple[FeatureAxis | None, bool]:
        if isinstance(module, _SPATIAL):
            return 1, False
        for leaf in reversed(list(_leaves(module))):
            axis = _axis_of(leaf, shape)
            if axis == -1 and leaf is not module and shape[1] in _widths(leaf):
                return None, True
            if axis is not None:
                return axis, False
        for parent in self._ancestors(module):
            found = {_axis_of(leaf, shape) for leaf in _leaves(parent)} - {None}
            if found:
                return (found.pop(), False) if len(found) == 1 else (None, True)
        return None, False

    def _batch_first(self, module: nn.Module) -> bool | None:
        """Return ``batch_first`` of a module or of its nearest ancestor that has it."""
        states = (states_batch_first(each) for each in (module, *self._ancestors(module)))
        return next((state for state in states if state is not None), None)

    def _ancestors(self, module: nn.Module) -> Iterator[nn.Module]:
        while module in self._parents:
            module = self._parents[module]
            yield module


def states_batch_first(module: Any) -> bool | None:
    """Return ``batch_first`` of a module; None if it has none."""
    if isinstance(module, _STACKS) and len(module.layers):
        module = module.layers[0]
    if isinstance(module, _TRANSFORMERS):
        module = module.self_attn
    state = getattr(module, "batch_first", None)
    return state if isinstance(state, bool) else None


def module_of_same_axes(module: nn.Module) -> nn.Module | None:
    """Return a module whose input has the axes of its output; None for a whole network."""
    return module if is_leaf(module) or states_batch_first(module) is not None else None


def _contains(module: nn.Module, batch_first: bool) -> bool:
    """Whether modules in a module have ``batch_first``, and all of them the same."""
    return {states_batch_first(each) for each in module.modules()} - {None} == {batch_first}


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    return (each for each in module.modules() if is_leaf(each))


def _axis_of(leaf: nn.Module, shape: tuple[int, ...]) -> FeatureAxis | None:
    """Return the axis of the features of a leaf, if its width is the length of that axis."""
    axis: FeatureAxis = 1 if isinstance(leaf, _SPATIAL) else -1
    return axis if shape[axis] in _widths(leaf) else None


def _widths(leaf: nn.Module) -> set[int]:
    widths = [getattr(leaf, name, None) for name in _WIDTHS]
    each = [width[0] if isinstance(width, tuple) and len(width) == 1 else width for width in widths]
    return {width for width in each if isinstance(width, int)}
