"""Record the outputs of layers for chosen samples while a ``with`` lasts; leave no trace.

One convention of shapes: what a layer gives for r chosen samples becomes (r, d) rows.

===================  ==============  =============================================================
``reduce``           (r, d)          from (r, t, d) tokens or (r, c, h, w) maps
===================  ==============  =============================================================
``"flatten"``        as it is        (r, t * d), (r, c * h * w)
``"mean"``, ``"max"``  as it is      over the tokens: (r, d); over the places of a map: (r, c)
``"cls"``            as it is        the first token: (r, d)
``"last"``           as it is        the last token: (r, d)
===================  ==============  =============================================================
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_id.layers import INPUT, LAST_HIDDEN, Layers, named_layers, select_layers

Reduce = Literal["flatten", "mean", "max", "cls", "last"]


class Recorder:
    """Rows of chosen samples, one (n, d) block per layer.

    Hooks are on the layers only between `begin` and `end` of a batch that holds a chosen sample. A
    hook copies the chosen rows at once, so that an operation in place after the layer does not
    change them, and it never raises: what cannot be recorded is a reason in `failures`.

    Args:
        modules: The layers, by name.
        n_samples: Samples to be recorded; memory is taken for so many rows.
        reduce: How tokens or maps become one row; see the table of this module.

    Attributes:
        failures: Why a layer has no rows, by name.
        calls: How often each layer was called in the last recorded batch; the first call is
            recorded.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], n_samples: int, reduce: Reduce = "flatten"
    ) -> None:
        if reduce not in _REDUCTIONS:
            raise ValueError(f"`reduce`: expected one of {sorted(_REDUCTIONS)}, got {reduce!r}")
        self.modules = dict(modules)
        self.n_samples = n_samples
        self.reduce = reduce
        self.failures: dict[str, str] = {}
        self.calls: dict[str, int] = {}
        self.seconds = 0.0
        self._calls: dict[str, int] = {}
        self._blocks: dict[str, Tensor] = {}
        self._filled: dict[str, int] = {}
        self._handles: list[RemovableHandle] = []
        self._batch: tuple[int, Int[Tensor, " r"], Int[Tensor, " r"]] | None = None
        self._last_input: Float[Tensor, "r d"] | None = None

    def begin(
        self,
        batch_size: int,
        rows: Int[Tensor, " r"],
        slots: Int[Tensor, " r"],
        last_of: Iterable[nn.Module] = (),
    ) -> None:
        """Put the hooks on for one batch, if it holds a chosen sample.

        Args:
            batch_size: Samples in the batch; a layer's first axis must be as long.
            rows: Which samples of the batch are chosen.
            slots: The place of each among all chosen samples.
            last_of: Modules of which the one called last tells ``"last_hidden"``: its input.
        """
        self.cancel()
        self._calls = {}
        if len(rows):
            self._batch = batch_size, rows, slots
            for name, module in self.modules.items():
                self._handles.append(module.register_forward_hook(self._output_hook(name)))
            for module in last_of:
                self._handles.append(module.register_forward_pre_hook(self._input_hook()))

    def end(self) -> None:
        """Keep the batch and take the hooks off."""
        if self._last_input is not None and self._batch is not None:
            self._attempt(LAST_HIDDEN, self._place, self._last_input, self._batch[2])
        self.cancel()

    def cancel(self) -> None:
        """Take the hooks off. May be called at any time, and again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._batch = self._last_input = None

    def store(self, name: str, output: Any) -> None:
        """Store the chosen rows of what a layer gave for the batch between `begin` and `end`.

        Args:
            name: The layer.
            output: Its output: a tensor, or a tuple or mapping that holds one.
        """
        if self._batch is None:
            return
        self._calls[name] = self._calls.get(name, 0) + 1
        self.calls[name] = max(self.calls.get(name, 0), self._calls[name])
        if self._calls[name] == 1:
            self._attempt(name, self._store, output)

    def rows(self, name: str) -> Float[Tensor, "n d"] | None:
        """Return what was recorded of a layer.

        Args:
            name: The layer.

        Returns:
            One row per chosen sample, in the order of the data set, in the dtype and on the device
            of the layer; None if nothing was recorded.
        """
        block = self._blocks.get(name)
        return None if block is None else block[: self._filled[name]]

    def discard(self, name: str) -> None:
        """Free what was recorded of a layer.

        Args:
            name: The layer.
        """
        self._blocks.pop(name, None)

    def _output_hook(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            self.store(name, output)

        return hook

    def _input_hook(self) -> Callable[..., None]:
        called = False

        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            nonlocal called
            if not called:
                called = True
                self._attempt(LAST_HIDDEN, self._hold, args)

        return hook

    def _attempt(self, name: str, action: Callable[..., None], *args: Any) -> None:
        if name in self.failures:
            return
        start = time.perf_counter()
        try:
            with torch.no_grad():
                action(name, *args)
        except Exception as error:  # whatever it is, the user's forward pass goes on
            self.failures[name] = f"{error}" if isinstance(error, ValueError) else repr(error)
            self._blocks.pop(name, None)
        self.seconds += time.perf_counter() - start

    def _store(self, name: str, output: Any) -> None:
        if self._batch is not None:
            self._place(name, self._chosen(output), self._batch[2])

    def _hold(self, _name: str, args: tuple[Any, ...]) -> None:
        self._last_input = self._chosen(args)

    def _chosen(self, output: Any) -> Float[Tensor, "r d"]:
        """Copy and reduce the chosen rows of the current batch."""
        assert self._batch is not None  # hooks are on only during a batch
        batch_size, rows, _ = self._batch
        tensor = first_tensor(output)
        if tensor.ndim == 0 or len(tensor) != batch_size:
            raise ValueError(
                f"expected {batch_size} samples along the first axis, got {tuple(tensor.shape)}"
            )
        # index_select makes new memory: a slice would show what is written there later, and keep
        # the whole batch alive.
        return _REDUCTIONS[self.reduce](tensor.index_select(0, rows.to(tensor.device)))

    def _place(self, name: str, chosen: Float[Tensor, "r d"], slots: Int[Tensor, " r"]) -> None:
        block = self._blocks.get(name)
        if block is None:
            block = self._blocks[name] = chosen.new_empty((self.n_samples, chosen.shape[1]))
            self._filled[name] = 0
        if block.shape[1] != chosen.shape[1]:
            raise ValueError(
                f"expected {block.shape[1]} features as in the batches before, got"
                f" {chosen.shape[1]}; reduce='mean' gives rows of one length"
            )
        block.index_copy_(0, slots.to(block.device), chosen.to(block))
        self._filled[name] = max(self._filled[name], int(slots.max()) + 1)


def first_tensor(output: Any) -> Tensor:
    """Return the tensor of a layer's output: itself, or the first floating one that it holds.

    Args:
        output: A tensor, tuple, list or mapping (of which ``last_hidden_state`` is preferred).

    Returns:
        A dense floating tensor.

    Raises:
        ValueError: If there is none.
    """
    if isinstance(output, Mapping):
        preferred = output.get("last_hidden_state")
        output = [preferred] if isinstance(preferred, Tensor) else list(output.values())
    if isinstance(output, (tuple, list)):
        tensors = [x for x in output if isinstance(x, Tensor) and x.is_floating_point()]
        output = tensors[0] if tensors else output
    if not isinstance(output, Tensor):
        raise ValueError(f"expected a tensor or a tuple or mapping with one, got {type(output)}")
    if output.is_nested or output.layout != torch.strided:
        raise ValueError(
            "expected a dense tensor, got a nested or sparse one; hook a layer before or after it"
        )
    if not output.is_floating_point():
        raise ValueError(f"expected a floating tensor, got {output.dtype}")
    return output


@contextmanager
def record_activations(
    model: nn.Module,
    layers: Layers = "auto",
    n_samples: int = 2000,
    reduce: Reduce = "flatten",
) -> Iterator[dict[str, Float[Tensor, "n d"]]]:
    """Record what layers give for the first samples that pass through a model, in any PyTorch code.

    Args:
        model: Any module; its first argument is a tensor of samples along the first axis.
        layers: See `lightning_id.layers.select_layers`; ``"last_hidden"`` is for the callback only.
        n_samples: Samples to record; what comes after costs nothing.
        reduce: How tokens or maps become one row per sample: ``"flatten"``, ``"mean"``, ``"max"``,
            ``"cls"`` or ``"last"``.

    Yields:
        A dictionary that is filled when the ``with`` ends: (n, d) rows by the name of the layer.
        Modules that were not called are not in it.

    Raises:
        ValueError: If a name matches nothing, or a layer could not be recorded.

    Example:
        >>> import torch
        >>> from lightning_id import record_activations
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(inplace=True))
        >>> with record_activations(net, layers=["input", "0"]) as rows:
        ...     for _ in range(3):
        ...         _ = net(torch.randn(10, 8))
        >>> {name: tuple(x.shape) for name, x in rows.items()}
        {'input': (30, 8), '0': (30, 4)}
    """
    names = select_layers(model, layers)
    modules = named_layers(model)
    recorder = Recorder(
        {names[name]: modules[name] for name in names if name in modules}, n_samples, reduce
    )
    seen = 0

    def begin(_model: nn.Module, args: tuple[Any, ...]) -> None:
        nonlocal seen
        batch = first_tensor(args)
        rows = torch.arange(min(len(batch), n_samples - seen))
        recorder.begin(len(batch), rows, rows + seen)
        seen += len(rows)
        if INPUT in names:
            recorder.store(names[INPUT], batch)

    handles = [
        model.register_forward_pre_hook(begin),
        model.register_forward_hook(lambda *_: recorder.end()),
    ]
    rows: dict[str, Tensor] = {}
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()
        recorder.cancel()
    if recorder.failures:
        raise ValueError("; ".join(f"{name}: {why}" for name, why in recorder.failures.items()))
    for shown in names.values():
        block = recorder.rows(shown)
        if block is not None:
            rows[shown] = block


def _over_places(x: Float[Tensor, "r ..."]) -> Float[Tensor, "r p d"]:
    """Put the axis to reduce second: tokens are there, the places of a map come last."""
    return x if x.ndim == 3 else x.flatten(2).transpose(1, 2)


def _pooled(pool: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    # In float32: a mean over thousands of bfloat16 values would lose what tells the rows apart.
    def pooled(x: Tensor) -> Tensor:
        return x.flatten(1) if x.ndim <= 2 else pool(_over_places(x).float())

    return pooled


_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "flatten": lambda x: x.reshape(len(x), -1),
    "mean": _pooled(lambda x: x.mean(1)),
    "max": _pooled(lambda x: x.amax(1)),
    "cls": _pooled(lambda x: x[:, 0]),
    "last": _pooled(lambda x: x[:, -1]),
}
