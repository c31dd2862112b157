"""Order and relative depth of layers, and the ends of a network, from one forward pass."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from torch import Tensor, nn, strided
from torch.multiprocessing.reductions import StorageWeakRef

from lightning_id.recording.hooks import Hooks
from lightning_id.recording.layers import INPUT, LAST_HIDDEN
from lightning_id.recording.modules import has_weights, watched_modules, weight_layers


@dataclass(frozen=True)
class End:
    """A layer with weights whose output no later layer was given, as far as calls show it.

    Attributes:
        layer: The module.
        given: The tensor that it was given: storage, place in it, shape and strides.
        output: The storage of its output, or of the output of weightless modules after it.
        branch: The module that holds it among the children of one that holds all ends.
        began: When the branch was called.
        held: What `Trace.hold` returned for the arguments of a Linear.
    """

    layer: nn.Module
    given: tuple[Any, ...] | None
    output: StorageWeakRef | None
    branch: nn.Module
    began: int
    held: Any = None


@dataclass
class _Call:
    """A call that has not returned."""

    module: nn.Module | None
    began: int
    newest: int | None  # when the newest tensor that it is given was first seen, None if it is new
    given: tuple[Any, ...] | None = None
    held: Any = None
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

    The network ends where the last layer with weights was called. One that is given only tensors
    which were there before another branch began stands beside that branch, and so does a copy
    without trainable parameters (a momentum encoder) beside the original; of several ends, that of
    the first output counts. Functions between modules are not seen: they are taken to be on the
    way.

    Attributes:
        modules: The layers to follow, by name.
        hold: Called with the tensor that a Linear is given and the Linear, before its first call;
            its result is kept as long as the Linear may be an end.
        order: Names of the layers in the order in which their first call ended.
        depths: Layers with weights passed at the end of each one's first call.
        total: Layers with weights on the way to the output.
        failure: The error that ended the search for the ends of the network.
    """

    modules: Mapping[str, nn.Module]
    hold: Callable[[Tensor, nn.Linear], Any] = lambda _given, _linear: None
    order: list[str] = field(default_factory=list)
    depths: dict[str, int] = field(default_factory=dict)
    total: int = 0
    failure: Exception | None = None
    _hooks: Hooks = field(default_factory=Hooks, repr=False)
    _passed: set[int] = field(default_factory=set, repr=False)  # ids of modules called before
    _before: dict[int, int] = field(default_factory=dict, repr=False)  # depth at their input
    # Depth of the tensors that a layer was given, while they live: id -> (reference, depth).
    _given: dict[int, tuple[weakref.ref[Tensor], int]] = field(default_factory=dict, repr=False)
    _seen: dict[StorageWeakRef, int] = field(default_factory=dict, repr=False)  # since when
    _clock: int = 0
    _calls: list[_Call] = field(default_factory=lambda: [_Call(None, 0, None)], repr=False)

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
    def last_linear(self) -> nn.Linear | None:
        """The Linear that the network ends in; None if it ends otherwise."""
        ends = self.ends if self.failure is None else []
        layer = ends[0].layer if len(ends) == 1 else None
        return layer if isinstance(layer, nn.Linear) else None

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
        since = [self._seen.get(storage) for storage in map(_storage, tensors) if storage]
        known = [time for time in since if time is not None]
        newest = max(known) if known and len(known) == len(tensors) else None
        self._see(tensors)
        self._clock += 1
        call = _Call(module, self._clock, newest, _place(tensors[0]) if tensors else None)
        if isinstance(module, nn.Linear) and tensors and id(module) not in self._passed:
            call.held = self.hold(tensors[0], module)
        self._calls.append(call)

    def _leave(self, module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if not any(call.module is module for call in self._calls):
            return
        while self._calls[-1].module is not module:  # these did not return: an error was caught
            self._calls.pop()
        call = self._calls.pop()
        outputs = [x for x in _tensors(output) if x.is_floating_point()]
        self._see(outputs)
        result = _storage(outputs[0]) if outputs else None
        is_first = id(module) not in self._passed
        self._passed.add(id(module))
        weighs = call.has_inner or has_weights(module)
        ends = call.ends
        if weighs and is_first and not call.has_inner:
            ends = [End(module, call.given, result, module, call.began, call.held)]
        ends = _narrowed(ends, result)
        if len(ends) == 1:
            ends = [replace(ends[0], output=result)]
        above = self._calls[-1]
        above.has_inner |= weighs
        if ends:
            beside = [end for end in above.ends if _is_beside(end, call)]
            above.ends = beside + [replace(end, branch=module, began=call.began) for end in ends]
        elif call.given is not None and not weighs:
            above.ends = [
                replace(end, output=result) if end.output == call.given[0] else end
                for end in above.ends
            ]

    def _see(self, tensors: Any) -> None:
        self._clock += 1
        for tensor in tensors:
            storage = _storage(tensor)
            if storage is not None:
                self._seen.setdefault(storage, self._clock)


def _is_beside(end: End, call: _Call) -> bool:
    """Whether a call did not depend on an earlier branch, as far as calls show it."""
    assert call.module is not None
    is_copy = type(end.branch) is type(call.module) and (
        _is_trained(end.branch) and not _is_trained(call.module)
    )
    return is_copy or (call.newest is not None and call.newest < end.began)


def _narrowed(ends: list[End], output: StorageWeakRef | None) -> list[End]:
    """Return the ends that count: that of the first output, those of branches that are trained."""
    ends = [end for end in ends if output is not None and end.output == output] or ends
    if len(ends) > 1:
        ends = [end for end in ends if _is_trained(end.branch)] or ends
    are_linear = all(isinstance(end.layer, nn.Linear) for end in ends)
    if are_linear and len({end.given for end in ends}) == 1 and ends[0].given is not None:
        return ends[:1]  # the last hidden representation is the same
    return ends


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
