"""Order and relative depth of layers, and the ends of a network, from one forward pass."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from torch import Tensor, nn, strided
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy

from lightning_id.recording.hooks import Hooks
from lightning_id.recording.layers import INPUT, LAST_HIDDEN
from lightning_id.recording.modules import (
    has_weights,
    is_linear,
    watched_modules,
    weight_layers,
)


@dataclass(frozen=True, eq=False)
class _Origin:
    """Where a tensor comes from: a call, or a function that is not seen, before it was.

    Attributes:
        began: When the call began, or when the tensor was first seen.
        ended: When the call ended; None for a function, which may depend on all that was before.
        given: Origins of the tensors that the call was given.
    """

    began: int
    ended: int | None = None
    given: tuple["_Origin", ...] = ()


@dataclass(frozen=True)
class End:
    """A layer whose output no later layer was given, as far as calls show it.

    Layers with weights, and norms with parameters that are given the result of a function.

    Attributes:
        layer: The module.
        given: The tensor that it was given: storage, place in it, shape and strides.
        output: The storage of its output, or of the output of weightless modules after it.
        branch: The module that holds it among the children of one that holds all ends.
        began: When the branch was called.
        ended: When the call returned.
        held: What `Trace.hold` returned for the arguments of a Linear, call by call.
        is_direct: Whether no function, such as a residual sum, came between layer and output.
    """

    layer: nn.Module
    given: tuple[Any, ...] | None
    output: StorageWeakRef | None
    branch: nn.Module
    began: int
    ended: int
    held: list[Any] = field(default_factory=list)
    is_direct: bool = True

    def continued(self, output: StorageWeakRef | None) -> "End":
        """Return the end with the output of a module that ends in it."""
        is_direct = self.is_direct and _is_same(self.output, output)
        return replace(self, output=output, is_direct=is_direct)


@dataclass
class _Call:
    """A call that has not returned."""

    module: nn.Module | None
    began: int
    origins: tuple[_Origin, ...] = ()  # of the tensors that it is given
    is_given_new: bool = False  # whether a function made a tensor that it is given
    given: tuple[Any, ...] | None = None
    held: list[Any] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    has_inner: bool = False  # whether it called modules with weights


@dataclass
class Trace:
    """Order and depth of layers and the last Linear, from watching one forward pass.

    Attach it to a model for one pass with ``with``. The depth of a layer is the number of layers
    with a weight matrix on the way to it: those executed so far, where layers that are given the
    same tensor (the shortcut of a residual block, the projections of attention) lie side by side
    and count once. An RNN counts as many as it has layers; embeddings and norms do not count. Each
    module counts at its first call.

    The network ends where the last layer with weights was called, or a norm with parameters, such
    as one of a residual sum. A layer stands beside a branch if the tensors that it is given were
    there before the branch began, or come from such tensors through modules alone, and so does a
    copy without trainable parameters (a momentum encoder) beside the original; of several ends,
    that of the first output counts. Functions between modules are not seen: they are taken to be on
    the way.

    Attributes:
        modules: The layers to follow, by name.
        hold: Called with the tensor that a Linear is given, the Linear, and its own result of the
            call before; results are kept as long as the Linear may be an end.
        order: Names of the layers in the order in which their first call ended.
        depths: Layers with weights passed at the end of each one's first call.
        total: Layers with weights on the way to the output.
        failure: The error that ended the search for the ends of the network.
    """

    modules: Mapping[str, nn.Module]
    hold: Callable[[Tensor, nn.Module, Any], Any] = lambda _given, _linear, _before: None
    order: list[str] = field(default_factory=list)
    depths: dict[str, int] = field(default_factory=dict)
    total: int = 0
    failure: Exception | None = None
    _hooks: Hooks = field(default_factory=Hooks, repr=False)
    _passed: set[int] = field(default_factory=set, repr=False)  # ids of modules called before
    _before: dict[int, int] = field(default_factory=dict, repr=False)  # depth at their input
    # Depth of the tensors that a layer was given, while they live: id -> (reference, depth).
    _given: dict[int, tuple[weakref.ref[Tensor], int]] = field(default_factory=dict, repr=False)
    _seen: dict[StorageWeakRef, _Origin] = field(default_factory=dict, repr=False)
    _clock: int = 0
    _calls: list[_Call] = field(default_factory=lambda: [_Call(None, 0)], repr=False)

    def attach(self, root: nn.Module, batch: Any = None) -> "Trace":
        """Put the hooks on.

        Args:
            root: The model whose layers with weights are counted.
            batch: What is there before the pass begins.

        Returns:
            This trace, to be used in a ``with`` that takes the hooks off.
        """
        self._see(_tensors(batch))
        for module in watched_modules(root):
            self._hooks.before(module, self._guarded(self._enter), with_kwargs=True)
            self._hooks.after(module, self._count)
        for name, module in self.modules.items():
            self._hooks.after(module, self._note(name))
        for module in watched_modules(root):
            self._hooks.after(module, self._guarded(self._leave))
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
        self._seen.clear()

    @property
    def ends(self) -> list[End]:
        """The ends of the network: one, unless branches lie side by side to the end."""
        return _narrowed(self._calls[0].ends, None)

    @property
    def last_linear(self) -> nn.Module | None:
        """The Linear that the network ends in; None if it ends otherwise."""
        ends = self.ends if self.failure is None else []
        layer = ends[0].layer if len(ends) == 1 else None
        return layer if layer is not None and is_linear(layer) else None

    def relative_depth(self, name: str) -> float:
        """Return the depth of a layer over that of the output.

        Args:
            name: A layer that was executed, or a pseudo-layer.

        Returns:
            0 at the input, 1 at the output; 0 everywhere if no layer with weights was called.
        """
        if name == INPUT or not self.total:
            return 0.0
        if name == LAST_HIDDEN:
            assert self.last_linear is not None
            return self._before[id(self.last_linear)] / self.total
        return self.depths[name] / self.total

    def _count(self, module: nn.Module, args: tuple[Any, ...], _output: Any) -> None:
        layers = weight_layers(module)
        if not layers or id(module) in self._passed:
            return
        before = self.total
        given = args[0] if args else None
        if isinstance(given, Tensor):
            reference, depth = self._given.get(id(given), (None, before))
            if reference is not None and reference() is given:
                before = depth
            else:
                self._given[id(given)] = (weakref.ref(given), before)
        self._before[id(module)] = before
        self.total = max(self.total, before + layers)

    def _note(self, name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            if name not in self.depths:
                self.order.append(name)
                self.depths[name] = self.total

        return note

    def _guarded(self, action: Callable[..., None]) -> Callable[..., None]:
        def guarded(*args: Any) -> None:
            if self.failure is None:
                try:
                    action(*args)
                except Exception as error:  # whatever it is, the user's forward pass goes on
                    self.failure = error

        return guarded

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = list(_tensors((args, kwargs)))
        is_given_new = any(_storage(tensor) not in self._seen for tensor in tensors)
        origins = self._see(tensors)
        self._clock += 1
        given = _place(tensors[0]) if tensors else None
        call = _Call(module, self._clock, origins, is_given_new, given)
        if is_linear(module) and tensors:
            self._hold(tensors[0], module, call)
        self._calls.append(call)

    def _hold(self, given: Tensor, linear: nn.Module, call: _Call) -> None:
        if id(linear) not in self._passed:
            call.held.append(self.hold(given, linear, None))
            return
        for end in [end for each in self._calls for end in each.ends if end.layer is linear]:
            end.held.append(self.hold(given, linear, end.held[-1] if end.held else None))

    def _leave(self, module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if not any(call.module is module for call in self._calls):
            return
        while self._calls[-1].module is not module:  # these did not return: an error was caught
            self._calls.pop()
        call = self._calls.pop()
        outputs = [x for x in _tensors(output) if x.is_floating_point()]
        result = _storage(outputs[0]) if outputs else None
        is_first = id(module) not in self._passed
        self._passed.add(id(module))
        weighs = call.has_inner or has_weights(module)
        ends = call.ends
        is_end = weighs or (self._is_given_result(call) and _has_own_norm(module))
        if is_end and is_first and not call.has_inner:
            ends = [End(module, call.given, result, module, call.began, self._clock, call.held)]
        ends = _narrowed(ends, result)
        if len(ends) == 1:
            ends = [ends[0].continued(result)]
        self._see_outputs(call, outputs, bool(ends))
        above = self._calls[-1]
        above.has_inner |= weighs
        if ends:
            beside = [end for end in above.ends if _is_beside(end, call)]
            above.ends = beside + [
                replace(end, branch=module, began=call.began, ended=self._clock) for end in ends
            ]
        elif call.given is not None and not weighs:
            above.ends = [
                replace(end, output=result) if _is_same(end.output, call.given[0]) else end
                for end in above.ends
            ]

    def _is_given_result(self, call: _Call) -> bool:
        """Whether a call is given the result of a function."""
        ends = [end for each in self._calls for end in each.ends if not end.is_direct]
        given = None if call.given is None else call.given[0]
        return call.is_given_new or any(_is_same(end.output, given) for end in ends)

    def _see_outputs(self, call: _Call, outputs: list[Tensor], is_changed: bool) -> None:
        """Note that a call returned tensors, which may be those that it was given, changed."""
        self._clock += 1
        origins = call.origins or (_Origin(self._clock),)  # given nothing that is seen
        origin = _Origin(call.began, self._clock, origins)
        if is_changed:
            self._seen |= {s: origin for s in map(_storage, outputs) if s is not None}
        self._see(outputs, origin)

    def _see(self, tensors: Any, origin: _Origin | None = None) -> tuple[_Origin, ...]:
        """Note where tensors that were not seen before come from, and return where all do."""
        self._clock += 1
        origin = origin or _Origin(self._clock)
        origins = []
        for tensor in tensors:
            storage = _storage(tensor)
            origins.append(origin if storage is None else self._seen.setdefault(storage, origin))
        return tuple(dict.fromkeys(origins))


def _is_beside(end: End, call: _Call) -> bool:
    """Whether a call did not depend on an earlier branch, as far as calls show it."""
    assert call.module is not None
    is_copy = type(end.branch) is type(call.module) and (
        _is_trained(end.branch) and not _is_trained(call.module)
    )
    return is_copy or not _depends(call.origins, end)


def _depends(origins: tuple[_Origin, ...], end: End) -> bool:
    """Whether tensors of some origins may come from the branch of an end."""
    if not origins:
        return True
    left, known = list(origins), set[_Origin]()
    while left:
        origin = left.pop()
        if origin in known:
            continue
        known.add(origin)
        last = origin.began if origin.ended is None else origin.ended
        if last < end.began:
            continue  # so were all that it was given
        if origin.ended is None or origin.began <= end.ended:
            return True
        left += origin.given
    return False


def _is_same(one: StorageWeakRef | None, other: StorageWeakRef | None) -> bool:
    """Whether two storages are known and the same: their ``==`` fails for None."""
    return one is not None and other is not None and one == other


def _narrowed(ends: list[End], output: StorageWeakRef | None) -> list[End]:
    """Return the ends that count: that of the first output, those of branches that are trained."""
    ends = [end for end in ends if _is_same(end.output, output)] or ends
    if len(ends) > 1:
        ends = [end for end in ends if _is_trained(end.branch)] or ends
    are_linear = all(is_linear(end.layer) for end in ends)
    if are_linear and len({end.given for end in ends}) == 1 and ends[0].given is not None:
        return ends[:1]  # the last hidden representation is the same
    return ends


def _has_own_norm(module: nn.Module) -> bool:
    """Whether a module has vectors of parameters itself, as norms have."""
    return any(
        parameter.ndim == 1 and len(parameter) > 1
        for parameter in module.parameters(recurse=False)
        if not is_lazy(parameter)
    )


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)


def _storage(tensor: Tensor) -> StorageWeakRef | None:
    """Return the identity of a tensor's memory, which views of it share; it is not kept alive."""
    try:
        return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    except Exception:  # sparse, nested and other tensors have none, each with an error of its own
        return None


def _place(tensor: Tensor) -> tuple[Any, ...] | None:
    storage = _storage(tensor)
    if storage is None or tensor.is_nested or tensor.layout != strided:
        return None
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
