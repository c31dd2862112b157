"""Order and relative depth of layers, from one forward pass."""

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from lightning_id.recording.ends import EndSearch
from lightning_id.recording.hooks import Hooks
from lightning_id.recording.layers import INPUT, LAST_HIDDEN
from lightning_id.recording.modules import watched_modules, weight_layers


class Trace:
    """Order and depth of layers, and the ends of the network, from hooks on all modules.

    The depth of a layer is the number of layers with a weight matrix on the way to it: all
    executed so far, where layers that are given the same tensor (the shortcut of a residual block,
    the projections of attention) are parallel and count once. An RNN counts as many as it has
    layers; embeddings and norms do not count. Each module counts at its first call. Functions
    between modules are not seen: they are assumed to lie on the way.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        keep: Callable[[Tensor, nn.Module, Any], Any] | None = None,
    ) -> None:
        self.order: list[str] = []  # names, as their first calls ended
        self.depths: dict[str, int] = {}  # layers with weights passed when the first call ended
        self.total = 0  # layers with weights on the way to the output
        self.ends = EndSearch(keep)
        self._modules = modules
        self._hooks = Hooks()
        self._before: dict[int, int] = {}  # depth at the input of each layer with weights, by id
        # Depth of the tensors that a layer was given, while they live: id -> (reference, depth).
        self._given: dict[int, tuple[weakref.ref[Tensor], int]] = {}

    def attach(self, root: nn.Module, batch: Any = None) -> None:
        """Add the hooks; the tensors of the batch exist before the pass."""
        for module in watched_modules(root):
            self._hooks.after(module, self._count)
        for name, module in self._modules.items():
            self._hooks.after(module, partial(self._note, name))
        self.ends.attach(root, batch)

    def remove(self) -> None:
        """Remove the hooks. Idempotent."""
        self._hooks.remove()
        self._given.clear()
        self.ends.remove()

    def relative_depth(self, name: str) -> float:
        """Return the depth of an executed layer, or of a pseudo-layer, over that of the output."""
        if name == INPUT or not self.total:
            return 0.0
        if name == LAST_HIDDEN:
            assert self.ends.last_linear is not None
            return self._before[id(self.ends.last_linear)] / self.total
        return self.depths[name] / self.total

    def _count(self, module: nn.Module, args: tuple[Any, ...], _output: Any) -> None:
        layers = weight_layers(module)
        if layers and id(module) not in self._before:
            before = self._before[id(module)] = self._depth_of(args[0] if args else None)
            self.total = max(self.total, before + layers)

    def _depth_of(self, given: Any) -> int:
        """Return the depth of a tensor: that of its first use as an input, or the present one."""
        if not isinstance(given, Tensor):
            return self.total
        reference, depth = self._given.get(id(given), (None, self.total))
        if reference is not None and reference() is given:
            return depth
        self._given[id(given)] = (weakref.ref(given), self.total)
        return self.total

    def _note(self, name: str, *_: Any) -> None:
        if name not in self.depths:
            self.order.append(name)
            self.depths[name] = self.total
