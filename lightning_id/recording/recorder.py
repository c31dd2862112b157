"""Forward hooks that record the rows of chosen samples, one block per layer."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lightning_id.recording.axes import Axes, module_of_same_axes
from lightning_id.recording.hooks import Hooks, takes_hooks
from lightning_id.recording.inputs import given_tensor, is_redirected
from lightning_id.recording.projection import FITTING, RandomProjection
from lightning_id.recording.rule import RowRule, own_output
from lightning_id.recording.samples import FixedSamples, ReservoirSamples
from lightning_id.recording.selection import Batch, RowSelector, Selected
from lightning_id.recording.storage import Limits, Storage, too_large

T = TypeVar("T")

_SCRIPTED = "a ScriptModule takes no hooks; name a layer around it, or leave it unscripted"


@dataclass(frozen=True)
class KeptRows:
    """The rows of one batch of a layer that may become `last_hidden`, or why there are none."""

    selector: RowSelector
    found: Selected | None
    reason: str | None


class Recorder:
    """Rows of chosen samples, one (n, d) block per layer.

    Hooks are on the layers only between `begin` and `end` of a batch that holds a chosen sample. A
    hook copies the chosen rows at once, so that a later operation in place does not change them,
    and it never raises: an error is a reason in `failures`. `n_rows` are chosen of a layer whose
    rows are samples of their own, as many as samples if None. Layers in `projected` do not fit into
    the limits: a random projection is recorded. None chooses them when the first batch has shown
    all widths.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        samples: FixedSamples | ReservoirSamples,
        rule: RowRule | None = None,
        limits: Limits | None = None,
        root: nn.Module | None = None,
        n_rows: int | None = None,
        projected: frozenset[str] | None = frozenset(),
    ) -> None:
        self.projected = projected
        self.failures = {name: _SCRIPTED for name, m in modules.items() if not takes_hooks(m)}
        self.calls: dict[str, int] = {}  # most in a batch; the first call is recorded
        self.seconds = 0.0
        self.modules = dict(modules)
        self._samples = samples
        self._rule = rule or RowRule()
        self._root = root
        self._n_rows = samples.n_samples if n_rows is None else n_rows
        self._axes = Axes(root)
        self._selectors: dict[str, RowSelector] = {}
        self._projection = cache(partial(RandomProjection, seed=self._rule.seed))
        self.storage = Storage(limits)
        self.hooks = Hooks()
        self._batch: Batch | None = None
        self._calls: Counter[str] = Counter()  # in this batch
        self._chunks: dict[str, list[Selected]] = {}  # in this batch
        self._items: dict[str, tuple[Any, ...]] = {}  # of mappings that a layer is given
        self._pending: dict[str, Selected] = {}  # of the first batch, until `projected` is chosen

    def begin(self, batch: Batch, given: Mapping[str, nn.Module] | None = None) -> None:
        """Add the hooks for a batch; also on modules whose input is recorded, by their name."""
        self.cancel()
        self._calls.clear()
        self._batch = batch
        for selector in self._selectors.values():
            selector.start_batch()
        for name, module in self.modules.items():
            if self.selector(name).has_rows_in(batch):
                self.hooks.before(module, partial(self._note_items, name))
                self.hooks.after(module, partial(self._record_call, name))
        for name, module in (given or {}).items():
            if self.selector(name).has_rows_in(batch):
                self.hooks.before(module, partial(self._record_given, name))

    def end(self) -> None:
        """End the batch and remove the hooks."""
        if self._batch is not None:
            self._end_chunks(self._batch)
        if self._pending:
            self.projected = self._choose_projected()
            for name, found in self._pending.items():
                self._run(name, self._write, name, found)
        self.cancel()

    def cancel(self) -> None:
        """Remove the hooks. Idempotent; safe to call at any point."""
        self.hooks.remove()
        self._pending.clear()
        self._chunks.clear()
        self._items.clear()
        self._batch = None

    def record(
        self,
        name: str,
        output: Any,
        module: nn.Module | None = None,
        given: tuple[Any, ...] = (),
    ) -> None:
        """Record the chosen rows of the first output of a batch; ``module`` states its axes."""
        if self._batch is None or not self.selector(name).has_rows_in(self._batch):
            return
        self._calls[name] += 1
        is_chunk = self._rule.rows_of(name) == "chunks"
        if not is_chunk:
            self.calls[name] = max(self.calls.get(name, 0), self._calls[name])
        if is_chunk or self._calls[name] == 1:
            module = module or self.modules.get(name)
            self._run(name, self._record_output, name, output, module, given)
        else:
            self._guarded(self.selector(name).count_later_call, output)

    def keep(
        self, name: str, output: Tensor, module: nn.Module, before: KeptRows | None
    ) -> KeptRows | None:
        """Return the chosen rows for `record_kept`; ``before`` are the rows of the last call."""
        if before is not None and self._rule.rows_of(name) != "chunks":
            return None
        selector = self._new_selector(name) if before is None else before.selector
        if self._batch is None or not selector.has_rows_in(self._batch):
            return None
        found, reason = self._guarded(selector.select, self._batch, output, module)
        return KeptRows(selector, found, reason)

    def record_kept(self, name: str, kept: KeptRows) -> None:
        """Record rows that `keep` returned in this batch."""
        self._selectors[name] = kept.selector
        if kept.reason is not None:
            self.fail(name, kept.reason)
        elif kept.found is not None:
            self._run(name, self._take, name, kept.found)

    def fail(self, name: str, reason: str) -> None:
        """Discard the rows of a layer, and keep the first reason."""
        self.failures.setdefault(name, reason)
        self.storage.discard(name)

    def rows(self, name: str) -> Float[Tensor, "n d"] | None:
        """Return one row per chosen sample, in the order of the samples; None if there are none."""
        return self.storage.rows(name)

    def slots(self, name: str) -> Int[Tensor, " n"] | None:
        """Return which of the chosen samples the rows of a layer are; None if they are none."""
        return None if self._rule.has_own_samples(name) else self.storage.slots(name)

    def selector(self, name: str) -> RowSelector:
        """Return the selector of the rows of a layer: their width, and caveats about them."""
        if name not in self._selectors:
            self._selectors[name] = self._new_selector(name)
        return self._selectors[name]

    def _note_items(self, name: str, _module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Note the items of mappings that a layer is given, and may add to."""
        with suppress(Exception):  # the user's forward pass goes on
            given = [x for x in (*args, *kwargs.values()) if isinstance(x, Mapping)]
            self._items[name] = tuple(value for each in given for value in each.values())

    def _record_call(self, name: str, _module: nn.Module, _args: Any, output: Any) -> None:
        self.record(name, output, given=self._items.pop(name, ()))

    def _record_given(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if module is not self._root or not is_redirected(module):
            given, _ = self._guarded(given_tensor, module, args, kwargs)
            self.record(name, given, module_of_same_axes(module))

    def _new_selector(self, name: str) -> RowSelector:
        return RowSelector(name, self._rule, self._axes, self._samples.draws, self._n_rows)

    def _run(self, name: str, action: Callable[..., None], *args: Any) -> None:
        """Run an action on a layer that has not failed; an error is the reason of its failure."""
        if name not in self.failures:
            _, reason = self._guarded(action, *args)
            if reason is not None:
                self.fail(name, reason)

    def _guarded(self, action: Callable[..., T], *args: Any) -> tuple[T | None, str | None]:
        """Return the result of an action, or the reason of its error: the forward pass goes on."""
        start = time.perf_counter()
        try:
            with torch.no_grad():
                return action(*args), None
        except Exception as error:
            return None, f"{error}" if isinstance(error, ValueError) else repr(error)
        finally:
            self.seconds += time.perf_counter() - start

    def _record_output(
        self, name: str, output: Any, module: nn.Module | None, given: tuple[Any, ...]
    ) -> None:
        assert self._batch is not None  # hooks are on only during a batch
        found = self.selector(name).select(self._batch, own_output(output, given), module)
        if found is not None:
            self._take(name, found)

    def _take(self, name: str, found: Selected) -> None:
        """Write rows; of a chunk, when the batch ends."""
        if self._rule.rows_of(name) == "chunks":
            self._chunks.setdefault(name, []).append(found)
        else:
            self._write(name, found)

    def _end_chunks(self, batch: Batch) -> None:
        """Write the rows of chunks; name the option where the calls of a layer look like chunks."""
        for name, selector in self._selectors.items():
            if selector.n_met:
                self._run(name, self._join_chunks, name, selector, batch)
            reason = selector.why_chunks(batch, self._calls[name])
            if reason is not None:
                self.failures[name] = reason

    def _join_chunks(self, name: str, selector: RowSelector, batch: Batch) -> None:
        if selector.has_all_chunks(batch) and name in self._chunks:
            rows, slots = zip(*self._chunks[name], strict=True)
            self._write(name, (torch.cat(rows), torch.cat(slots)))

    def _write(self, name: str, found: Selected) -> None:
        """Write rows into the storage, projected if they are wide; later if that is not known."""
        if self.projected is None:
            self._pending[name] = found
            return
        rows, slots = found
        n_slots = self._n_rows if self._rule.has_own_samples(name) else self._samples.n_samples
        most = FITTING if name in self.projected else self._rule.max_features
        if most is not None and rows.shape[1] > most:
            rows = self._projection(rows.shape[1], most)(rows)
        self.storage.write(name, rows, slots, n_slots)

    def _choose_projected(self) -> frozenset[str]:
        """Choose the layers whose rows would not fit into the limits, by their widths alone."""
        rows = {name: found[0] for name, found in self._pending.items()}
        equal_share = self._samples.equal_share
        counts = {
            name: self._n_rows if self._rule.has_own_samples(name) else equal_share for name in rows
        }
        sizes = {name: rows[name][:1].nbytes * n for name, n in counts.items()}
        wide = [name for name in rows if rows[name].shape[1] > FITTING]
        reduced = {
            name: FITTING * max(4, rows[name].element_size()) * counts[name] for name in wide
        }
        place = rows[wide[0]].device.type if wide else "cpu"
        return too_large(sizes, reduced, self.storage.limits.total(place))
