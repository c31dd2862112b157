"""Record the outputs of layers for chosen samples while a ``with`` lasts; leave no trace."""

import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lightning_id._checks import whole_number
from lightning_id.recording.axes import Axes, FeatureAxis, states_batch_first
from lightning_id.recording.batches import count_samples
from lightning_id.recording.hooks import Hooks, takes_hooks
from lightning_id.recording.inputs import InputSearch, given_tensor, is_redirected
from lightning_id.recording.layers import (
    INPUT,
    LAST_HIDDEN,
    PSEUDO,
    Layers,
    is_automatic,
    is_named,
    select_layers,
)
from lightning_id.recording.memory import free_memory, room_for_rows
from lightning_id.recording.modules import called_module, named_layers
from lightning_id.recording.processes import SingleProcess
from lightning_id.recording.rows import (
    FITTING,
    RandomProjection,
    Reduce,
    RowRule,
    RowsPerSample,
    first_tensor,
    fits,
    own_output,
    pad,
    places_of,
    reduce_rows,
    why_not,
)
from lightning_id.recording.samples import ReservoirSamples, uniform_draws
from lightning_id.recording.storage import Limits, Storage, too_large

_OPEN_SAMPLES = (
    "axes 0 and 1 are both as long as the batch: axis 0 was taken for the samples, as sample_dim=0"
    " would"
)
_OPEN_TOKENS = "the features may lie along axis 1 or axis 2: axis 2 was taken"
_OPEN_MAPS = "the features may lie along axis 1 or the last axis: axis 1 was taken"
_SCRIPTED = "a ScriptModule takes no hooks; name a layer around it, or leave it unscripted"
_AT_ONCE = 2**22  # numbers that are projected at a time: a few copies of them are made


class Recorder:
    """Rows of chosen samples, one (n, d) block per layer.

    Hooks are on the layers only between `begin` and `end` of a batch that holds a chosen sample. A
    hook copies the chosen rows at once, so that an operation in place after the layer does not
    change them, and it never raises: what cannot be recorded is a reason in `failures`.

    Args:
        modules: The layers, by name.
        n_samples: Samples to be recorded; memory is taken for so many rows.
        rule: How an output becomes rows.
        limits: See `lightning_id.recording.storage.Storage`.
        draws: A number in [0, 1) for each sample, for ``reduce="per-position"``; drawn here with
            the seed of the rule if it is left out.
        root: The model of the layers: see `lightning_id.recording.axes.Axes`.
        n_rows: Rows to choose of a layer whose rows are samples of their own; None for as many as
            samples.
        projected: Layers of which a random projection is recorded, because their rows do not fit
            into the limits; None to choose them when the first batch has shown all widths, for
            rules without a `max_features`.
        equal_share: Samples that the choice of them counts with: one number for all ranks.

    Attributes:
        projected: As given, or chosen.
        failures: Why a layer has no rows, by name.
        padded: Layers whose rows hold padding that the batches mark.
        calls: How often each layer was called in the last recorded batch; the first call is
            recorded.
        widths: Features of a layer before they were projected, by name.
        seconds: Time spent on copying rows.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        n_samples: int,
        rule: RowRule | None = None,
        limits: Limits | None = None,
        draws: Float[Tensor, " n"] | None = None,
        root: nn.Module | None = None,
        n_rows: int | None = None,
        projected: frozenset[str] | None = frozenset(),
        equal_share: int | None = None,
    ) -> None:
        self.modules = dict(modules)
        self.n_samples = n_samples
        self.rule = rule or RowRule()
        self.failures = {name: _SCRIPTED for name, m in modules.items() if not takes_hooks(m)}
        self.padded: set[str] = set()
        self.calls: dict[str, int] = {}
        self.widths: dict[str, int] = {}
        self.seconds = 0.0
        self._root = root
        self._axes = Axes(root)
        self._notes: dict[str, dict[str, bool]] = {}
        self._draws = uniform_draws(n_samples, self.rule.seed) if draws is None else draws
        self.projected = projected
        self._equal_share = n_samples if equal_share is None else equal_share
        self._storage = Storage(limits)
        self._pending: list[tuple[str, Float[Tensor, "r d"], Int[Tensor, " r"]]] = []
        self._projections: dict[int, RandomProjection] = {}
        self._calls: dict[str, int] = {}
        self._n_rows = n_samples if n_rows is None else n_rows
        self._chosen_rows: dict[str, ReservoirSamples] = {}  # of layers with rows of their own
        self._present: dict[str, Bool[Tensor, " n"]] = {}
        self._left_out: dict[str, int] = {}
        self._fitting: dict[str, set[int]] = {}  # axes as long as every batch so far
        self._largest = 0  # samples in the batches before
        # Of the batch, by layer: rows of chunks, samples in them; axis and rows of calls that have
        # fewer than there are samples.
        self._chunks: dict[str, list[tuple[Float[Tensor, "r d"], Int[Tensor, " r"]]]] = {}
        self._met: dict[str, int] = {}
        self._short: dict[str, tuple[int, int]] = {}
        self._items: dict[str, tuple[Any, ...]] = {}  # of mappings that a layer is given
        self._hooks = Hooks()
        self._batch: _Batch | None = None

    def begin(
        self,
        batch_size: int,
        rows: Int[Tensor, " r"],
        slots: Int[Tensor, " r"],
        given: Mapping[str, nn.Module] | None = None,
        mask: Bool[Tensor, "b t"] | None = None,
        padded: int | None = None,
    ) -> None:
        """Put the hooks on for one batch, if it holds a chosen sample.

        Args:
            batch_size: Samples in the batch; the sample axis of a layer must be as long.
            rows: Which samples of the batch are chosen.
            slots: The place of each among all chosen samples.
            given: Modules whose input is recorded, by the name to record it under.
            mask: True for the tokens of each sample that count; None for all.
            padded: Tokens of each sample, if padding among them is not left out.
        """
        self.cancel()
        self._calls = {}
        self._batch = _Batch(batch_size, rows, slots, mask, padded)
        for name, module in self.modules.items():
            if self._is_recorded(name):
                self._hooks.before(module, self._items_hook(name), with_kwargs=True)
                self._hooks.after(module, self._output_hook(name))
        for name, module in (given or {}).items():
            if self._is_recorded(name):
                self._hooks.before(module, self._input_hook(name), with_kwargs=True)

    def _is_recorded(self, name: str) -> bool:
        """Whether this batch has rows to record of a layer."""
        if self._batch is None:
            return False
        return len(self._batch.rows) > 0 or self.rule.rows_of(name) == "all"

    def end(self) -> None:
        """End the batch and take the hooks off."""
        if self._batch is not None:
            self._largest = max(self._largest, self._batch.size)
            self._end_chunks(self._batch)
        if self._pending:
            self._choose_projected()
            for name, rows, slots in self._pending:
                self._guarded(name, self._project_and_write, rows, slots)
        self.cancel()

    def cancel(self) -> None:
        """Take the hooks off. May be called at any time, and again."""
        self._hooks.remove()
        for of_batch in (self._pending, self._chunks, self._met, self._short, self._items):
            of_batch.clear()
        self._batch = None

    def record(
        self,
        name: str,
        output: Any,
        module: nn.Module | None = None,
        given: tuple[Any, ...] = (),
    ) -> None:
        """Store the chosen rows of what a layer gave for the batch between `begin` and `end`.

        Args:
            name: The layer.
            output: Its output: a tensor, or a tuple or mapping that holds one.
            module: The module that states its axes; None for the layer of that name.
            given: Items of mappings that the layer was given, which are no output of its own.
        """
        if not self._is_recorded(name):
            return
        self._calls[name] = self._calls.get(name, 0) + 1
        is_chunk = self.rule.rows_of(name) == "chunks"
        if not is_chunk:
            self.calls[name] = max(self.calls.get(name, 0), self._calls[name])
        if is_chunk or self._calls[name] == 1:
            self._guarded(
                name, self._record_output, module or self.modules.get(name), output, given
            )
        elif name in self._short:
            self._add_short(name, output)

    def keep(
        self, name: str, output: Any, module: nn.Module, before: "KeptRows | None" = None
    ) -> "KeptRows | None":
        """Copy the chosen rows of a tensor, to be stored by `record_kept` or dropped.

        Args:
            name: The layer that it may become, which has no rows yet.
            output: See `record`.
            module: The module that states its axes.
            before: Rows that were kept of the call before, if this is a later chunk of the batch.

        Returns:
            The rows, or the reason why there are none; None if this batch has none to record.
        """
        if not self._is_recorded(name):
            return None
        start, rows, reason = time.perf_counter(), None, None
        self._met[name] = before.met if before is not None else 0
        try:
            with torch.no_grad():
                rows = self._select_rows(name, module, output)
        except Exception as error:  # whatever it is, the user's forward pass goes on
            reason = _reason(error)
        self.seconds += time.perf_counter() - start
        was_padded = name in self.padded
        self.padded.discard(name)
        self._short.pop(name, None)
        known = [known.pop(name, None) for known in self._known()]
        return KeptRows(rows, reason, known, was_padded, self._met.pop(name))

    def record_kept(self, name: str, held: "KeptRows") -> None:
        """Store rows that were held in the batch between `begin` and `end`.

        Args:
            name: The layer.
            held: Its rows.
        """
        for known, value in zip(self._known(), held.known, strict=True):
            if value is not None:
                known[name] = value
        if held.is_padded:
            self.padded.add(name)
        if held.met:
            self._met[name] = held.met
        if held.reason is not None:
            self.fail(name, held.reason)
        elif held.rows is not None:
            self._guarded(name, self._take_rows, *held.rows)

    def _known(self) -> list[dict[str, Any]]:
        """Return where that is which is known of a layer from the batches so far."""
        return [self.widths, self._notes, self._fitting, self._left_out, self._chosen_rows]

    def fail(self, name: str, reason: str) -> None:
        """Give a layer up: free its rows, and keep the first reason.

        Args:
            name: The layer.
            reason: Why it has no rows.
        """
        self.failures.setdefault(name, reason)
        self._storage.discard(name)

    def rows(self, name: str) -> Float[Tensor, "n d"] | None:
        """Return what was recorded of a layer.

        Args:
            name: The layer.

        Returns:
            One row per chosen sample, in the order of the data set, in the dtype and on the device
            of the layer; None if nothing was recorded.
        """
        block = self._storage.get(name)
        if block is None:
            return None
        n, present = int(self._present[name].sum()), self._present[name]
        return block[:n] if bool(present[:n].all()) else block[present.to(block.device)]

    def slots(self, name: str) -> Int[Tensor, " n"] | None:
        """Return which of the chosen samples the rows of a layer are; None if they are none."""
        if self.rule.rows_of(name) == "all" or name not in self._present:
            return None
        return self._present[name].nonzero()[:, 0]

    def nbytes(self) -> Counter[str]:
        """Return the bytes of all rows by the place where they are kept."""
        return self._storage.nbytes()

    def discard(self, name: str) -> None:
        """Free what was recorded of a layer.

        Args:
            name: The layer.
        """
        self._storage.discard(name)

    def _output_hook(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            self.record(name, output, given=self._items.pop(name, ()))

        return hook

    def _items_hook(self, name: str) -> Callable[..., None]:
        """Return a hook that notes the items of mappings, which the layer may add to."""

        def hook(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            with suppress(Exception):  # whatever it is, the user's forward pass goes on
                given = [x for x in (*args, *kwargs.values()) if isinstance(x, Mapping)]
                self._items[name] = tuple(value for each in given for value in each.values())

        return hook

    def _input_hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if module is self._root and is_redirected(module):
                return
            self.record(name, given_tensor(module, args, kwargs), laid_out_as(module))

        return hook

    def _guarded(self, name: str, action: Callable[..., None], *args: Any) -> None:
        if name in self.failures:
            return
        start = time.perf_counter()
        try:
            with torch.no_grad():
                action(name, *args)
        except Exception as error:  # whatever it is, the user's forward pass goes on
            self.fail(name, _reason(error))
        self.seconds += time.perf_counter() - start

    def _record_output(
        self, name: str, module: nn.Module | None, output: Any, given: tuple[Any, ...]
    ) -> None:
        found = self._select_rows(name, module, own_output(output, given))
        if found is not None:
            self._take_rows(name, *found)

    def _take_rows(self, name: str, rows: Float[Tensor, "r d"], slots: Int[Tensor, " r"]) -> None:
        """Write rows, or keep those of a chunk until the batch ends."""
        if self.rule.rows_of(name) == "chunks":
            self._chunks.setdefault(name, []).append((rows, slots))
        else:
            self._write_block(name, rows, slots)

    def _end_chunks(self, batch: "_Batch") -> None:
        """Write the rows of chunks; name the option where the calls of a layer look like chunks."""
        for name in self._met:
            self._guarded(name, self._join_chunks, batch)
        for name, (axis, total) in self._short.items():
            if total == batch.size:
                self.failures[name] = (
                    f"expected {total} samples along axis {axis}, got as many rows in"
                    f" {self._calls[name]} calls; rows_per_sample='chunks' puts them together"
                )

    def _join_chunks(self, name: str, batch: "_Batch") -> None:
        total = self._met[name]
        if total == batch.size:
            if name in self._chunks:
                rows, slots = zip(*self._chunks[name], strict=True)
                self._write_block(name, torch.cat(rows), torch.cat(slots))
        elif batch.size < self._largest and name in self._present:
            self._left_out[name] = self._left_out.get(name, 0) + len(batch.rows)
        else:
            raise ValueError(
                f"expected chunks of {batch.size} samples together, got {total} rows;"
                " rows_per_sample='chunks' is for a layer that is given a batch part by part"
            )

    def _add_short(self, name: str, output: Any) -> None:
        """Count the rows of a later call of a layer whose first call had too few."""
        axis, total = self._short[name]
        with suppress(Exception):  # whatever it is, the user's forward pass goes on
            self._short[name] = axis, total + first_tensor(output).shape[axis]

    def _select_rows(
        self, name: str, module: nn.Module | None, output: Any
    ) -> tuple[Float[Tensor, "r d"], Int[Tensor, " r"]] | None:
        """Copy and reduce the chosen rows of the current batch; None if there are none."""
        assert self._batch is not None  # hooks are on only during a batch
        batch, per = self._batch, self.rule.rows_of(name)
        padded, tokens = pad(output)
        tensor = first_tensor(padded)
        if isinstance(output, Tensor) and self.rule.reduce == "flatten":
            tokens = None  # zeros are what an encoder of nested tensors gives in the end
        axis = 0 if tokens is not None else self._sample_axis(name, module, tensor, batch.size)
        if not self._is_as_expected(name, tuple(tensor.shape), axis):
            self._left_out[name] = self._left_out.get(name, 0) + len(batch.rows)
            return None
        numbers, slots, draws = self._picked(name, tensor.shape[axis])
        if not len(numbers):
            return None
        each = per if isinstance(per, int) else 1
        if each > 1:
            numbers = (numbers[:, None] * each + torch.arange(each)).flatten()
        # index_select makes new memory: a slice would show what is written there later, and keep
        # the whole batch alive.
        chosen = tensor.index_select(axis, numbers.to(tensor.device)).movedim(axis, 0)
        mask = None
        if tokens is not None:
            mask = tokens[numbers].to(tensor.device)
        elif batch.mask is not None and per != "all":
            samples = batch.rows[torch.isin(batch.slots, slots)]
            mask = batch.mask[samples.to(batch.mask.device)].to(tensor.device)
        if chosen.ndim == 3 and batch.padded in chosen.shape[1:]:
            self.padded.add(name)
        features = self._feature_axis(name, module, chosen)
        if each > 1 and self.rule.reduce == "flatten":
            chosen = chosen.reshape(-1, each, *chosen.shape[1:])
        elif each > 1:  # the rows of a sample are its tokens
            places = places_of(chosen, features)
            chosen = places.reshape(-1, each * places.shape[1], places.shape[2])
            features = -1
        rows = reduce_rows(chosen, self.rule.reduce, mask, draws[slots], features)
        self.widths[name] = rows.shape[1]
        return self._projected(name, rows), slots

    def _picked(
        self, name: str, n_rows: int
    ) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"], Float[Tensor, " n"]]:
        """Return which rows of an output are recorded, their slots, and the draws of all slots."""
        assert self._batch is not None
        rows, slots, per = self._batch.rows, self._batch.slots, self.rule.rows_of(name)
        if per == "chunks":
            start = self._met.get(name, 0)
            end = self._met[name] = start + n_rows
            is_here = (rows >= start) & (rows < end)
            return rows[is_here] - start, slots[is_here], self._draws
        if per != "all":
            return rows, slots, self._draws
        if name not in self._chosen_rows:
            self._chosen_rows[name] = ReservoirSamples(self._n_rows, self.rule.seed)
        chosen = self._chosen_rows[name]
        return (*chosen.next_batch(n_rows), chosen.draws)

    def _is_as_expected(self, name: str, shape: tuple[int, ...], axis: int) -> bool:
        # A module may pad a batch that is smaller than those before: its samples are left out.
        assert self._batch is not None
        size, per = self._batch.size, self.rule.rows_of(name)
        if len(shape) <= axis:
            raise ValueError(f"expected {size} samples along axis {axis}, got shape {shape}")
        axes = {i for i, length in enumerate(shape) if fits(length, size, per)}
        fitting = self._fitting[name] = axes & self._fitting.get(name, axes)
        if axis in axes:
            return True
        if size < self._largest and name in self._present and not fitting:
            return False
        if per == 1 and shape[axis] < size:
            self._short[name] = axis, shape[axis]
        raise ValueError(
            f"expected {size} samples along axis {axis}, got {shape[axis]} rows;"
            f" {why_not(shape, axis, size)}"
        )

    def _sample_axis(self, name: str, module: nn.Module | None, tensor: Tensor, size: int) -> int:
        axis = self.rule.axis_of(name)
        if axis is not None or module is None:
            return axis or 0
        per = self.rule.rows_of(name)
        axis, is_open = self._axes.of_samples(
            module, tuple(tensor.shape), lambda n: fits(n, size, per)
        )
        self._note(name, _OPEN_SAMPLES, is_open and per == 1)
        return axis

    def _feature_axis(
        self, name: str, module: nn.Module | None, chosen: Tensor
    ) -> FeatureAxis | None:
        if module is None or chosen.ndim < 3 or self.rule.reduce == "flatten":
            return None
        axis, is_open = self._axes.of_features(module, tuple(chosen.shape))
        self._note(name, _OPEN_TOKENS if chosen.ndim == 3 else _OPEN_MAPS, is_open)
        return axis

    def _note(self, name: str, text: str, holds: bool) -> None:
        """Keep a note on a layer for as long as it holds of every batch."""
        notes = self._notes.setdefault(name, {})
        notes[text] = holds and notes.get(text, True)

    def rule_notes(self, name: str) -> list[str]:
        """Return what the option `rows_per_sample` made of the rows of a layer."""
        per = self.rule.rows_of(name)
        notes = {
            "every row is a sample of its own": per == "all",
            "the first rows are the samples": per == "first",
            "the chunks of a batch are put together": per == "chunks",
            f"{per} rows one after another are one sample": isinstance(per, int) and per > 1,
        }
        return [text for text, holds in notes.items() if holds]

    def notes(self, name: str) -> list[str]:
        """Return caveats about how the rows of a layer were obtained."""
        left_out = self._left_out.get(name, 0)
        notes = {
            f"{left_out} samples of a smaller batch are left out: it gave other rows": left_out > 0,
        }
        return [text for text, holds in {**notes, **self._notes.get(name, {})}.items() if holds]

    def _projected(self, name: str, rows: Float[Tensor, "r d"]) -> Float[Tensor, "r m"]:
        most, width = self.rule.max_features, rows.shape[1]
        if name in (self.projected or ()):
            most = FITTING
        if most is None or width <= most:
            return rows
        if width not in self._projections:
            self._projections[width] = RandomProjection(width, most, self.rule.seed)
        some = max(1, _AT_ONCE // width)
        return torch.cat([self._projections[width](part) for part in torch.split(rows, some)])

    def _choose_projected(self) -> None:
        """Choose the layers whose rows would not fit into the limits, by the widths alone."""
        counts = {
            name: self._n_rows if self.rule.rows_of(name) == "all" else self._equal_share
            for name, *_ in self._pending
        }
        sizes = {name: rows[:1].nbytes * counts[name] for name, rows, _ in self._pending}
        wide = {name: rows for name, rows, _ in self._pending if rows.shape[1] > FITTING}
        reduced = {
            name: FITTING * max(4, rows.element_size()) * counts[name]
            for name, rows in wide.items()
        }
        place = next((rows.device.type for rows in wide.values()), "cpu")
        self.projected = too_large(sizes, reduced, self._storage.limits.total(place))

    def _project_and_write(
        self, name: str, rows: Float[Tensor, "r d"], slots: Int[Tensor, " r"]
    ) -> None:
        self._write_block(name, self._projected(name, rows), slots)

    def _write_block(
        self, name: str, chosen: Float[Tensor, "r d"], slots: Int[Tensor, " r"]
    ) -> None:
        if self.projected is None:
            self._pending.append((name, chosen, slots))
            return
        block = self._storage.get(name)
        if block is None:
            n = self._n_rows if self.rule.rows_of(name) == "all" else self.n_samples
            block = self._storage.new(name, n, chosen)
            self._present[name] = torch.zeros(n, dtype=torch.bool)
        if block.shape[1] != chosen.shape[1]:
            raise ValueError(
                f"expected {block.shape[1]} features as in the batches before, got"
                f" {chosen.shape[1]}; reduce='mean' gives rows of one length"
            )
        block.index_copy_(0, slots.to(block.device), chosen.to(block))
        self._present[name][slots] = True


def laid_out_as(module: nn.Module) -> nn.Module | None:
    """Return a module whose input has the axes of its output; None for a whole network."""
    is_leaf = next(module.children(), None) is None
    return module if is_leaf or states_batch_first(module) is not None else None


def _reason(error: Exception) -> str:
    return f"{error}" if isinstance(error, ValueError) else repr(error)


@dataclass(frozen=True)
class KeptRows:
    """Rows of a layer for one batch, or why there are none, and what the batch told of it.

    Attributes:
        rows: One for each chosen sample of the batch, and their slots.
        reason: Why there are no rows.
        known: See `Recorder._known`.
        is_padded: Whether the rows hold padding that the batch marks.
        met: Samples of the batch in this chunk and those before.
    """

    rows: tuple[Float[Tensor, "r m"], Int[Tensor, " r"]] | None
    reason: str | None
    known: list[Any]
    is_padded: bool
    met: int


@dataclass(frozen=True)
class _Batch:
    size: int
    rows: Int[Tensor, " r"]
    slots: Int[Tensor, " r"]
    mask: Bool[Tensor, "b t"] | None
    padded: int | None


@contextmanager
def record_activations(
    model: nn.Module,
    layers: Layers = "auto",
    n_samples: int = 2000,
    reduce: Reduce = "flatten",
    sample_dim: int | Mapping[str, int] | None = None,
    rows_per_sample: RowsPerSample = 1,
) -> Iterator[dict[str, Float[Tensor, "n d"]]]:
    """Record what layers give for the first samples that pass through a model, in any PyTorch code.

    Rows are on the device of the layer as long as they take less than a quarter of its free memory,
    then in host memory up to a quarter of that, then in a temporary file that is mapped into memory
    and gone with the rows.

    Args:
        model: Any module; the first tensor among its arguments has the samples along its first
            axis.
        layers: See `lightning_id.recording.select_layers`; ``"last_hidden"`` is for the callback
            only.
        n_samples: Samples to record, at least 1; what comes after costs nothing.
        reduce: How tokens or maps become one row per sample: see `lightning_id.recording.rows`.
        sample_dim: The axis along which the samples lie, for all layers or by name.
        rows_per_sample: Rows of a layer that belong to a sample, where it gives other rows than one
            for each, for all layers or by name: see `lightning_id.recording.rows`.

    Yields:
        A dictionary that is filled when the ``with`` ends: (n, d) rows by the name of the layer.
        Modules that were not called by ``model(...)`` are not in it. While it lasts, compiled
        modules run without their graphs.

    Raises:
        ValueError: If a name matches nothing, ``model`` is scripted, or at the end, if a layer that
            was named could not be recorded; for ``"auto"`` that is a warning. The rows of the other
            layers are there either way.

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
    if not takes_hooks(model):
        raise ValueError(
            f"`model`: expected a module that takes hooks, got a {type(model).__name__}; give the"
            " module that was scripted, or one around it"
        )
    names = select_layers(model, layers)
    modules = named_layers(model)
    if LAST_HIDDEN in names:
        raise ValueError(
            f"`layers`: expected modules or {INPUT!r}, got {LAST_HIDDEN!r}, which only the callback"
            " finds; name the layer before the last Linear"
        )
    rule = RowRule(reduce, sample_dim, rows_per_sample=rows_per_sample)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    recorder = Recorder(
        {names[name]: called_module(model, modules[name]) for name in names if name not in PSEUDO},
        n_samples,
        rule,
        room_for_rows(free_memory(device, SingleProcess()), n_samples),
        root=model,
    )
    axis = rule.axis_of(names.get(INPUT, INPUT))
    if axis is None:
        axis = int(states_batch_first(model) is False)
    seen = 0

    def begin(_model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal seen
        size = count_samples((args, kwargs), axis)
        rows = torch.arange(min(size, n_samples - seen))
        recorder.begin(size, rows, rows + seen)
        seen += len(rows)
        search.restart()

    def found(given: Tensor, module: nn.Module) -> None:
        if given.is_floating_point() or is_named(INPUT, layers):
            recorder.record(names[INPUT], given, laid_out_as(module))

    hooks, search = Hooks(), InputSearch(found)
    hooks.before(model, begin, with_kwargs=True)
    if INPUT in names:
        search.attach(model, hooks)
    hooks.after(model, lambda *_: recorder.end())
    rows: dict[str, Tensor] = {}
    try:
        with _eager():
            yield rows
    finally:
        hooks.remove()
        recorder.cancel()
    if search.reason is not None and is_named(INPUT, layers) and seen:
        recorder.fail(names[INPUT], search.reason)
    for shown in names.values():
        block = recorder.rows(shown)
        if block is not None:
            rows[shown] = block
    failed = "; ".join(f"{name}: {why}" for name, why in recorder.failures.items())
    if failed and not is_automatic(layers):
        raise ValueError(failed)
    if failed:
        warnings.warn(f"not recorded: {failed}", stacklevel=3)


def _eager() -> AbstractContextManager[object]:
    """Run without compiled graphs, which never call a hook that came after them."""
    is_compiling = "torch._dynamo" in sys.modules  # else nothing is compiled, and it takes seconds
    return torch.compiler.set_stance("force_eager") if is_compiling else nullcontext()
