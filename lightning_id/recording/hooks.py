"""Forward hooks that watch a module and are in no copy or pickle of it."""

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


def takes_hooks(module: nn.Module) -> bool:
    """Return whether hooks can be put on a module: not on one that is scripted or traced."""
    return not isinstance(module, torch.jit.ScriptModule)


class Hooks:
    """Hooks on the calls of modules, removed together.

    A module may be copied or saved while they are on it: a deep copy holds a function that does
    nothing, until `remove`, and a pickle holds the same one, which is of the standard library.
    A module that takes no hooks (see `takes_hooks`) is left out.
    """

    def __init__(self) -> None:
        self._hooks: list[_Hook] = []

    def before(self, module: nn.Module, action: Callable[..., None]) -> None:
        """Call ``action(module, args, kwargs)`` before each forward of a module."""
        if takes_hooks(module):
            hook = _Hook(module, action)
            hook.handle = module.register_forward_pre_hook(hook, with_kwargs=True)
            self._hooks.append(hook)

    def after(self, module: nn.Module, action: Callable[..., None]) -> None:
        """Call ``action(module, args, output)`` after each forward of a module."""
        if takes_hooks(module):
            hook = _Hook(module, action)
            hook.handle = module.register_forward_hook(hook)
            self._hooks.append(hook)

    def remove(self) -> None:
        """Remove all hooks, and their traces from deep copies of the modules. Idempotent."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return Hooks, ()


class _Hook:
    """A hook that ignores the calls of every module but its own, such as a shallow copy."""

    handle: RemovableHandle

    def __init__(self, module: nn.Module, action: Callable[..., None]) -> None:
        self._module = weakref.ref(module)
        self._action = action
        self._copies: list[weakref.ref[dict[int, Any]]] = []

    def __call__(self, module: nn.Module, *args: Any) -> None:
        if self._module() is module:
            self._action(module, *args)

    def remove(self) -> None:
        self.handle.remove()
        for copy in self._copies:
            (copy() or {}).pop(self.handle.id, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        copy = memo.get(id(self.handle.hooks_dict_ref()))  # hooks of the copy, filled just now
        if copy is not None:
            self._copies.append(weakref.ref(copy))
        return nullcontext.__exit__  # takes any arguments and returns None

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext, "__exit__")
