"""Order and relative depth of layers, from one forward pass."""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lightning_id.hooks import Hooks
from lightning_id.layers import INPUT, LAST_HIDDEN


@dataclass
class Trace:
    """Order and depth of layers, learnt by watching one forward pass.

    Attach it to a model for one pass with ``with``. The depth of a layer is the number of Conv and
    Linear layers on the way to it: those executed so far, where layers that are given the same
    tensor (the shortcut of a residual block, the projections of attention) lie side by side and
    count once. Each module counts at its first call.

    Attributes:
        modules: The layers to follow, by name.
        order: Their names in the order in which their first call ended.
        depths: Conv and Linear layers passed at the end of each one's first call.
        total: Conv and Linear layers on the way to the output.
        last_linear: The Linear that was executed last, or None.
        before_last_linear: Depth of what it was given.
    """

    modules: Mapping[str, nn.Module]
    order: list[str] = field(default_factory=list)
    depths: dict[str, int] = field(default_factory=dict)
    total: int = 0
    last_linear: nn.Linear | None = None
    before_last_linear: int = 0
    _hooks: Hooks = field(default_factory=Hooks, repr=False)
    _passed: weakref.WeakSet[nn.Module] = field(default_factory=weakref.WeakSet, repr=False)
    # Depth of the tensors that a layer was given, while they live: id -> (reference, depth).
    _given: dict[int, tuple[weakref.ref[Tensor], int]] = field(default_factory=dict, repr=False)

    def attach(self, root: nn.Module) -> "Trace":
        """Put the hooks on.

        Args:
            root: The model whose Conv and Linear layers are counted.

        Returns:
            This trace, to be used in a ``with`` that takes the hooks off.
        """
        for module in root.modules():
            if isinstance(module, (_ConvNd, nn.Linear)):
                self._hooks.after(module, self._count)
        for name, module in self.modules.items():
            self._hooks.after(module, self._note(name))
        return self

    def __enter__(self) -> "Trace":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.remove()
        self._given.clear()

    def relative_depth(self, name: str) -> float:
        """Return the depth of a layer over that of the output.

        Args:
            name: A layer that was executed, or a pseudo-layer.

        Returns:
            0 at the input, 1 at the output; 0 everywhere if there is no Conv or Linear.
        """
        if name == INPUT or not self.total:
            return 0.0
        depth = self.before_last_linear if name == LAST_HIDDEN else self.depths[name]
        return depth / self.total

    def _count(self, module: nn.Module, args: tuple[Any, ...], _output: Any) -> None:
        if module in self._passed:
            return
        self._passed.add(module)
        before = self.total
        given = args[0] if args else None
        if isinstance(given, Tensor):
            reference, depth = self._given.get(id(given), (None, before))
            if reference is not None and reference() is given:
                before = depth
            else:
                self._given[id(given)] = (weakref.ref(given), before)
        if isinstance(module, nn.Linear):
            self.last_linear, self.before_last_linear = module, before
        self.total = max(self.total, before + 1)

    def _note(self, name: str) -> Any:
        def note(*_: Any) -> None:
            if name not in self.depths:
                self.order.append(name)
                self.depths[name] = self.total

        return note
