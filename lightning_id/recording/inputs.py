"""The input of a network: the tensor that the module which is called first is given."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_id.recording.axes import module_of_same_axes
from lightning_id.recording.hooks import Hooks
from lightning_id.recording.modules import has_parameters, watched_modules


def given_tensor(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the first tensor that a module is given, in the order in which its forward names them.

    A batch that is handed on whole (a tuple or mapping of tensors) has no order to rely on: its
    first tensor may be the target. Neither have several keywords that the forward does not name.
    Masks (of booleans) and single numbers are no inputs.
    """
    try:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs)
    except (TypeError, ValueError):  # no signature, or a call that will fail by itself
        named, loose = list(args), list(kwargs.values())
    else:
        kinds = bound.signature.parameters
        named, loose = [], []
        for name, value in bound.arguments.items():
            if kinds[name].kind is inspect.Parameter.VAR_POSITIONAL:
                named += value
            elif kinds[name].kind is inspect.Parameter.VAR_KEYWORD:
                loose += value.values()
            else:
                named.append(value)
    ordered, unordered = _candidates(named), _candidates(loose)
    if ordered or len(unordered) != 1:
        return ordered[0] if ordered else None
    return unordered[0]


def named_arguments(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by the names that the forward gives them, if it has them."""
    try:
        return dict(inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # no signature, or a call that will fail by itself
        return kwargs


def _candidates(values: list[Any]) -> list[Tensor]:
    return [x for x in values if isinstance(x, Tensor) and x.dtype != torch.bool and x.ndim]


class InputSearch:
    """Finds the input of a network in one pass: the first tensor given to the first called module.

    Where that module is given no tensor of its own, but a batch as a whole, the one that it calls
    first is looked at, and so on, as long as none of them has returned. A call without arguments,
    such as one that makes a distribution, is passed over. `record` is called at once with the
    input, which later code may change in place, and a module of its axes; again at later calls of
    the module. Token ids are left out, unless the input is named: the first layer embeds them.
    """

    def __init__(self, record: Callable[[Tensor, nn.Module | None], None], is_named: bool) -> None:
        self.is_left_out = False
        self._record = record
        self._is_named = is_named
        self._root: nn.Module | None = None
        self._given_nothing: set[int] = set()  # ids of modules that are given nothing
        self.restart()

    def attach(self, root: nn.Module, hooks: Hooks) -> None:
        """Put hooks on every module of a network, or of the module that holds it."""
        self._root = root
        for module in watched_modules(root):
            hooks.before(module, self._enter)
            hooks.after(module, self._leave)

    def restart(self) -> None:
        """Search again, in the next pass."""
        self._is_over = False
        self.source: nn.Module | None = None  # the module that is given the input
        self.reason: str | None = "no module was called"  # why no input is found
        self._given_nothing.clear()

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        is_other = self._is_over and module is not self.source  # the source may be called again
        if is_other or (module is self._root and is_redirected(module)):
            return
        if all(value is None for value in (*args, *kwargs.values())):
            self._given_nothing.add(id(module))
            return
        try:
            tensor = given_tensor(module, args, kwargs)
        except Exception as error:  # whatever it is, the user's forward pass goes on
            self._is_over, self.reason = True, repr(error)
            return
        if tensor is not None:
            self._is_over, self.source, self.reason = True, module, None
            self.is_left_out = not (tensor.is_floating_point() or self._is_named)
            if not self.is_left_out:
                self._record(tensor, module_of_same_axes(module))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], _output: Any) -> None:
        # A transform without parameters may be given lists, and its successor their batch.
        is_passed_over = self._is_over or id(module) in self._given_nothing
        if not is_passed_over and has_parameters(module):
            self._is_over = True
            kinds = ", ".join(type(value).__name__ for value in args) or "keywords"
            self.reason = (
                f"expected a tensor as an argument of the module that is called first, got {kinds}"
                f" for {type(module).__name__}"
            )


def is_redirected(root: nn.Module) -> bool:
    """Whether a call of a LightningModule runs one of its steps, as under DDP."""
    forward = vars(root).get("forward")
    return forward is not None and getattr(forward, "__func__", None) is not type(root).forward
