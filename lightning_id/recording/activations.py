"""Record the outputs of layers in any PyTorch code, without a callback."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_id._checks import whole_number
from lightning_id.recording.axes import module_of_same_axes, states_batch_first
from lightning_id.recording.batches import count_samples
from lightning_id.recording.hooks import Hooks, takes_hooks
from lightning_id.recording.inputs import InputSearch, named_arguments
from lightning_id.recording.layers import (
    INPUT,
    LAST_HIDDEN,
    Layers,
    called_modules,
    is_automatic,
    is_named,
    select_layers,
)
from lightning_id.recording.memory import free_memory, room_for_rows
from lightning_id.recording.modules import device_of
from lightning_id.recording.padding import find_padding, pad_token_of
from lightning_id.recording.processes import SingleProcess
from lightning_id.recording.recorder import Recorder
from lightning_id.recording.rule import Reduce, RowRule, RowsPerSample
from lightning_id.recording.samples import first_samples
from lightning_id.recording.selection import Batch


@contextmanager
def record_activations(
    model: nn.Module,
    layers: Layers = "auto",
    n_samples: int = 2000,
    reduce: Reduce = "flatten",
    sample_dim: int | Mapping[str, int] | None = None,
    rows_per_sample: RowsPerSample = 1,
    positions: Sequence[int] | None = None,
    tokens_per_sample: int | None = None,
) -> Iterator[dict[str, Float[Tensor, "n d"]]]:
    """Record the outputs of layers for the first samples that pass through a model.

    Rows are on the device of the layer as long as they take less than a quarter of its free memory,
    then in host memory up to a quarter of that, then in a temporary file that is mapped into memory
    and deleted with the rows.

    Args:
        model: Any module; the first tensor among its arguments has the samples along its first
            axis.
        layers: See `lightning_id.recording.select_layers`; ``"last_hidden"`` is for the callback
            only.
        n_samples: Samples to record, at least 1; later ones cost nothing.
        reduce: How tokens or maps become one row per sample; this and all below are as of
            `lightning_id.IntrinsicDimensionCallback`.
        sample_dim: The axis of the samples.
        rows_per_sample: Rows of a layer that belong to a sample.
        positions: The places of the tokens that may be drawn.
        tokens_per_sample: Tokens of one sample that may be drawn at most.

    Padding by a keyword ``attention_mask``, or by the padding token of the network in
    ``input_ids``, is left out of the rows, except with ``reduce="flatten"``.

    Yields:
        A dictionary that is filled when the ``with`` ends: (n, d) rows by the name of the layer.
        Modules that were not called by ``model(...)`` are not in it. Until then, compiled modules
        run without their graphs.

    Raises:
        ValueError: If a name matches nothing, ``model`` is scripted, or at the end, if a layer that
            was named could not be recorded; for ``"auto"`` that is a warning. The rows of the other
            layers are in the dictionary either way.

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
    whole_number("n_samples", n_samples, least=1)
    names = _select(model, layers)
    rule = RowRule(
        reduce,
        sample_dim,
        rows_per_sample=rows_per_sample,
        positions=positions,
        tokens_per_sample=tokens_per_sample,
    )
    recording = _Recording(model, names, n_samples, rule, is_named(INPUT, layers))
    rows: dict[str, Tensor] = {}
    try:
        with eager():
            yield rows
    finally:
        recording.stop()
    failed = "; ".join(f"{name}: {why}" for name, why in recording.failures().items())
    rows |= recording.rows()
    if failed and not is_automatic(layers):
        raise ValueError(failed)
    if failed:
        warnings.warn(f"not recorded: {failed}", stacklevel=3)


def _select(model: nn.Module, layers: Layers) -> dict[str, str]:
    if not takes_hooks(model):
        raise ValueError(
            f"`model`: expected a module that takes hooks, got a {type(model).__name__}; give the"
            " module that was scripted, or one around it"
        )
    names = select_layers(model, layers)
    if LAST_HIDDEN in names:
        raise ValueError(
            f"`layers`: expected modules or {INPUT!r}, got {LAST_HIDDEN!r}, which only the callback"
            " finds; name the layer before the last Linear"
        )
    return names


class _Recording:
    """A recorder whose batches are the forward passes of a model."""

    def __init__(
        self,
        model: nn.Module,
        names: Mapping[str, str],
        n_samples: int,
        rule: RowRule,
        is_input_named: bool,
    ) -> None:
        self._is_input_named = is_input_named  # then an input of token ids is a failure
        limits = room_for_rows(free_memory(device_of(model), SingleProcess()), n_samples)
        self._names = names
        self._samples = first_samples(n_samples, rule.seed)
        self._recorder = Recorder(
            called_modules(model, names), self._samples, rule, limits, root=model
        )
        axis = rule.axis_of(names.get(INPUT, INPUT))
        self._axis = int(states_batch_first(model) is False) if axis is None else axis
        self._hooks, self._search = Hooks(), InputSearch(self._record_input)
        self._is_empty = True
        self._pad_token = pad_token_of(model)
        self._hooks.before(model, self._begin)
        if INPUT in names:
            self._search.attach(model, self._hooks)
        self._hooks.after(model, lambda *_: self._recorder.end())

    def stop(self) -> None:
        """Remove the hooks."""
        self._hooks.remove()
        self._recorder.cancel()

    def rows(self) -> dict[str, Tensor]:
        """Return the rows of the layers that have any."""
        found = {name: self._recorder.rows(name) for name in self._names.values()}
        return {name: rows for name, rows in found.items() if rows is not None}

    def failures(self) -> dict[str, str]:
        """Return why layers have no rows."""
        if self._search.reason is not None and self._is_input_named and not self._is_empty:
            self._recorder.fail(self._names[INPUT], self._search.reason)
        return self._recorder.failures

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        size = count_samples((args, kwargs), self._axis)
        rows, slots = self._samples.next_batch(size)
        self._is_empty &= len(rows) == 0
        padding = find_padding(named_arguments(model, args, kwargs), size, self._pad_token)
        self._recorder.begin(Batch(size, rows, slots, padding=padding))
        self._search.restart()

    def _record_input(self, given: Tensor, module: nn.Module) -> None:
        if given.is_floating_point() or self._is_input_named:
            self._recorder.record(self._names[INPUT], given, module_of_same_axes(module))


def eager() -> AbstractContextManager[object]:
    """Run without compiled graphs, which never call a hook that came after them."""
    is_compiling = "torch._dynamo" in sys.modules  # else nothing is compiled, and it takes seconds
    return torch.compiler.set_stance("force_eager") if is_compiling else nullcontext()
