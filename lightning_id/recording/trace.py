"""Order and relative depth of layers, and the layers that a network ends in, from one pass."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor, nn, strided
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy

from lightning_id.recording.hooks import Hooks
from lightning_id.recording.modules import has_weights, is_linear, watched_modules, weight_layers


@dataclass(frozen=True, eq=False)
class _Origin:
    """Where a tensor comes from: a call, or a function that is not seen, before it was."""

    began: int  # when the call began, or when the tensor was first seen
    ended: int | None = None  # None for a function, which may depend on all tensors before
    given: tuple["_Origin", ...] = ()  # of the tensors that the call was given


@dataclass(frozen=True)
class End:
    """A layer whose output was given to no later layer, as far as calls show it.

    Layers with weights, and norms with parameters that are given the result of a function.
    """

    layer: nn.Module
    given: tuple[Any, ...] | None  # the tensor given to it: storage, place in it, shape, strides
    output: StorageWeakRef | None  # of the layer, or of weightless modules after it
    branch: nn.Module  # that holds it among the children of one that holds all ends
    began: int  # when the branch was called
    ended: int  # when the call returned
    kept: list[Any] = field(default_factory=list)  # of `keep` of a Linear, call by call
    is_direct: bool = True  # no function, such as a residual sum, came between layer and output


@dataclass
class _Call:
    """A call that has not returned."""

    module: nn.Module
    began: int = 0
    origins: tuple[_Origin, ...] = ()  # of the tensors that it is given
    given: tuple[Any, ...] | None = None
    is_given_result: bool = False  # of a function
    kept: list[Any] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    has_inner: bool = False  # whether it called modules with weights


class Trace:
    """Order, depth and ends of a network, from hooks on all its modules.

    The depth of a layer is the number of layers with a weight matrix on the way to it: all
    executed so far, where layers that are given the same tensor (the shortcut of a residual block,
    the projections of attention) are parallel and count once. An RNN counts as many as it has
    layers; embeddings and norms do not count. Each module counts at its first call. Functions
    between modules are not seen: they are assumed to lie on the way.

    The ends are the layers with weights that were called last. A norm with parameters, such as one
    of a residual sum, is an end too. A layer is parallel to a branch if the tensors that it is
    given existed before the branch began, or come from such tensors through modules alone, and so
    is a copy without trainable parameters (a momentum encoder) to the original; of several ends,
    that of the first output counts. Functions are assumed to depend on all tensors before.

    ``keep`` is called with the input of a Linear, the Linear, and the result of its call before;
    results other than None stay in `End.kept` while the Linear may be an end.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        keep: Callable[[Tensor, nn.Module, Any], Any] | None = None,
    ) -> None:
        # Layers with weights passed when the first call of each name ended, in this order.
        self.depths: dict[str, int] = {}
        self.total = 0  # layers with weights on the way to the output
        self.failure: Exception | None = None  # which ended the search for ends
        self._modules = modules
        self._keep = keep or (lambda *_: None)
        self._before: dict[int, int] = {}  # depth at the input of each layer with weights, by id
        # Depth of the tensors that a layer was given, while they live: id -> (reference, depth).
        self._given: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._returned: set[int] = set()  # ids of modules that returned before
        self._origins: dict[StorageWeakRef, _Origin] = {}
        self._clock = 0
        self._calls = [_Call(nn.Identity())]  # a root, whose ends are those of the network

    def attach(self, root: nn.Module, hooks: Hooks, batch: Any = None) -> None:
        """Add the hooks; the tensors of the batch exist before the pass."""
        self._see(_tensors(batch))
        for module in watched_modules(root):
            hooks.before(module, self._guarded(self._enter))
            hooks.after(module, self._count)
            hooks.after(module, self._guarded(self._leave))
        for name, module in self._modules.items():
            hooks.after(module, partial(self._note, name))

    def depth_before(self, layer: nn.Module) -> int:
        """Return the depth of the input of a layer with weights that was called."""
        return self._before[id(layer)]

    @property
    def ends(self) -> list[End]:
        """The ends of the network: one, unless branches are parallel to the end."""
        return _narrowed(self._calls[0].ends, None)

    @property
    def last_linear(self) -> nn.Module | None:
        """The Linear that the network ends in; None if it ends otherwise."""
        ends = self.ends if self.failure is None else []
        layer = ends[0].layer if len(ends) == 1 else None
        return layer if layer is not None and is_linear(layer) else None

    def why_no_linear(self, name_of: Callable[[nn.Module], str]) -> str:
        """Return why there is no last Linear."""
        ends = [f"{type(end.layer).__name__} {name_of(end.layer)!r}" for end in self.ends]
        if self.failure is not None:
            return f"it could not be found out in which layer the network ends, {self.failure!r}"
        if not ends:
            return "no layer with weights was called"
        if len(ends) == 1:
            return f"the network ends in {ends[0]}, not in a Linear"
        return f"the network has several ends, {', '.join(ends)}"

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
        self.depths.setdefault(name, self.total)

    def _guarded(self, action: Callable[..., None]) -> Callable[..., None]:
        def guarded(*args: Any) -> None:
            if self.failure is None:
                try:
                    action(*args)
                except Exception as error:  # the user's forward pass goes on
                    self.failure = error

        return guarded

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = list(_tensors((args, kwargs)))
        given = _place(tensors[0]) if tensors else None
        ends = [end for each in self._calls for end in each.ends]
        is_given_result = any(_storage(tensor) not in self._origins for tensor in tensors) or any(
            given is not None and _is_same(end.output, given[0])
            for end in ends
            if not end.is_direct
        )
        origins = self._see(tensors)
        self._clock += 1
        call = _Call(module, self._clock, origins, given, is_given_result)
        self._calls.append(call)
        if tensors and is_linear(module):
            # The input of a later call is kept while the Linear is an end.
            is_first = id(module) not in self._returned
            later = [end.kept for end in ends if end.layer is module]
            for kept in [call.kept] if is_first else later:
                found = self._keep(tensors[0], module, kept[-1] if kept else None)
                if found is not None:
                    kept.append(found)

    def _leave(self, module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if not any(call.module is module for call in self._calls):
            return
        while (call := self._calls.pop()).module is not module:  # it raised, which was caught
            self._calls[-1].ends += call.ends  # of calls after it
            self._calls[-1].has_inner |= call.has_inner
        outputs = [x for x in _tensors(output) if x.is_floating_point()]
        result = _storage(outputs[0]) if outputs else None
        weighs = call.has_inner or has_weights(module)
        ends = self._ends_of(call, module, result, weighs)
        self._returned.add(id(module))
        self._clock += 1
        origins = call.origins or (_Origin(self._clock),)  # given nothing that is seen
        origin = _Origin(call.began, self._clock, origins)
        if ends:  # the outputs may be the inputs, changed
            self._origins |= {s: origin for s in map(_storage, outputs) if s is not None}
        self._see(outputs, origin)
        around = self._calls[-1]
        around.has_inner |= weighs
        if ends:
            parallel = [end for end in around.ends if _is_parallel(end, call)]
            around.ends = parallel + [
                replace(end, branch=module, began=call.began, ended=self._clock) for end in ends
            ]
        elif call.given is not None and not weighs:
            around.ends = [
                replace(end, output=result) if _is_same(end.output, call.given[0]) else end
                for end in around.ends
            ]

    def _ends_of(
        self, call: _Call, module: nn.Module, result: StorageWeakRef | None, weighs: bool
    ) -> list[End]:
        """Return the ends in a call that returned: the module itself, or the ends in it."""
        is_end = weighs or (call.is_given_result and _has_own_norm(module))
        ends = call.ends
        if is_end and not call.has_inner and id(module) not in self._returned:
            ends = [End(module, call.given, result, module, call.began, self._clock, call.kept)]
        ends = _narrowed(ends, result)
        if len(ends) == 1:
            is_direct = ends[0].is_direct and _is_same(ends[0].output, result)
            ends = [replace(ends[0], output=result, is_direct=is_direct)]
        return ends

    def _see(self, tensors: Iterable[Tensor], origin: _Origin | None = None) -> tuple[_Origin, ...]:
        """Note where tensors that were not seen before come from, and return where all do."""
        self._clock += 1
        origin = origin or _Origin(self._clock)
        origins = []
        for tensor in tensors:
            storage = _storage(tensor)
            origins.append(origin if storage is None else self._origins.setdefault(storage, origin))
        return tuple(dict.fromkeys(origins))


def _is_parallel(end: End, call: _Call) -> bool:
    """Whether a call did not depend on an earlier branch, as far as calls show it."""
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
    """Return the ends that count: that of the first output, and of trained branches."""
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
