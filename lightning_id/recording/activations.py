"""Record the outputs of layers in any PyTorch code, without a callback."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_id._checks import whole_number
from lightning_id.recording.axes import states_batch_first
from lightning_id.recording.batches import count_samples, find_padding, pad_token_of
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
from lightning_id.recording.modules import device_of
from lightning_id.recording.processes import SingleProcess
from lightning_id.recording.recorder import Recorder
from lightning_id.recording.rule import Reduce, RowRule, RowsPerSample
from lightning_id.recording.samples import first_samples
from lightning_id.recording.selection import Batch
from lightning_id.recording.storage import free_memory, room_for_rows


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
    given_axis = rule.axis_of(names.get(INPUT, INPUT))
    axis = int(states_batch_first(model) is False) if given_axis is None else given_axis
    limits = room_for_rows(free_memory(device_of(model), SingleProcess()), n_samples)
    samples, pad_token = first_samples(n_samples, rule.seed), pad_token_of(model)
    recorder = Recorder(called_modules(model, names), samples, rule, limits, root=model)
    search = InputSearch(partial(recorder.record, names.get(INPUT, "")), is_named(INPUT, layers))
    n_met = 0  # chosen samples that were in a batch

    def begin(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal n_met
        size = count_samples((args, kwargs), axis)
        rows, slots = samples.next_batch(size)
        n_met += len(rows)
        padding = find_padding(named_arguments(model, args, kwargs), size, pad_token)
        recorder.begin(Batch(size, rows, slots, padding=padding))
        search.restart()

    hooks = Hooks()
    hooks.before(model, begin)
    if INPUT in names:
        search.attach(model, hooks)
    hooks.after(model, lambda *_: recorder.end())
    found: dict[str, Tensor] = {}
    try:
        with eager():
            yield found
    finally:
        hooks.remove()
        recorder.cancel()
    if n_met and INPUT in names and is_named(INPUT, layers) and search.reason is not None:
        recorder.fail(names[INPUT], search.reason)
    for name in names.values():
        if (rows := recorder.rows(name)) is not None:
            found[name] = rows
    failed = "; ".join(f"{name}: {why}" for name, why in recorder.failures.items())
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


def eager() -> AbstractContextManager[object]:
    """Run without compiled graphs, which never call a hook that came after them."""
    is_compiling = "torch._dynamo" in sys.modules  # else nothing is compiled, and it takes seconds
    return torch.compiler.set_stance("force_eager") if is_compiling else nullcontext()
