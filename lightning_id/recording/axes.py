"""Which axis of a layer's output holds the samples and which the features, as the modules state it.

- Recurrent and attention modules of PyTorch state ``batch_first``; what they contain follows them.
- A convolution or batch norm has its channels along axis 1, a Linear or layer norm along the last
  axis. A block is laid out as the last one in it whose width fits; a module without any, such as an
  activation, as its parent is.
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
    """The axes of the outputs of the modules of a model.

    Args:
        root: The model; None if the modules have no parents.
    """

    def __init__(self, root: nn.Module | None) -> None:
        self._parents: dict[nn.Module, nn.Module] = {}
        self._known: dict[tuple[int, tuple[int, ...]], tuple[FeatureAxis | None, bool]] = {}
        for parent in () if root is None else root.modules():
            for child in parent.children():
                self._parents.setdefault(child, parent)

    def of_samples(
        self, module: nn.Module, shape: tuple[int, ...], fits: Callable[[int], bool]
    ) -> tuple[Literal[0, 1], bool]:
        """Return the axis of the samples, and whether the other one would fit as well.

        Args:
            module: The layer.
            shape: Shape of its output.
            fits: Whether an axis of some length may be that of the samples.

        Returns:
            0 or 1; True if the modules leave open which of the two.
        """
        if len(shape) < 3 or isinstance(module, _SPATIAL):
            return 0, False
        batch_first = self._batch_first(module)
        if not fits(shape[1]) or batch_first:
            return 0, False
        if batch_first is False:
            return 1, False
        if fits(shape[0]):
            # Of maps, axis 1 is that of the channels or of the height.
            return 0, len(shape) == 3 and not _contains(module, batch_first=True)
        return (1, False) if _contains(module, batch_first=False) else (0, False)

    def of_features(
        self, module: nn.Module, shape: tuple[int, ...]
    ) -> tuple[FeatureAxis | None, bool]:
        """Return the axis of the features, and whether the other one would fit as well.

        Args:
            module: The layer.
            shape: Shape of its output, with the samples along axis 0.

        Returns:
            1, -1 (the last one), or None if no module states it; True if both would fit.
        """
        key = id(module), shape[1:]
        if key not in self._known:
            self._known[key] = self._look_for_features(module, shape)
        return self._known[key]

    def _look_for_features(
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
        while module in self._parents:
            module = self._parents[module]
            found = {_axis_of(leaf, shape) for leaf in _leaves(module)} - {None}
            if found:
                return (found.pop(), False) if len(found) == 1 else (None, True)
        return None, False

    def _batch_first(self, module: nn.Module) -> bool | None:
        """Return what a module, or the nearest one around it, states; None if none does."""
        states = states_batch_first(module)
        while states is None and module in self._parents:
            module = self._parents[module]
            states = states_batch_first(module)
        return states


def states_batch_first(module: Any) -> bool | None:
    """Return what a module states by itself; None if it does not."""
    if isinstance(module, _STACKS) and len(module.layers):
        module = module.layers[0]
    if isinstance(module, _TRANSFORMERS):
        module = module.self_attn
    states = getattr(module, "batch_first", None)
    return states if isinstance(states, bool) else None


def _contains(module: nn.Module, batch_first: bool) -> bool:
    """Whether modules in a module state ``batch_first``, and all of them alike."""
    return {states_batch_first(each) for each in module.modules()} - {None} == {batch_first}


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    return (each for each in module.modules() if next(each.children(), None) is None)


def _axis_of(leaf: nn.Module, shape: tuple[int, ...]) -> FeatureAxis | None:
    """Return the axis along which a leaf has its features, if its width is that of the axis."""
    axis: FeatureAxis = 1 if isinstance(leaf, _SPATIAL) else -1
    return axis if shape[axis] in _widths(leaf) else None


def _widths(leaf: nn.Module) -> set[int]:
    widths = [getattr(leaf, name, None) for name in _WIDTHS]
    each = [width[0] if isinstance(width, tuple) and len(width) == 1 else width for width in widths]
    return {width for width in each if isinstance(width, int)}
