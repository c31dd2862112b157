"""One measurement: the rows of all layers for one pass over the data, then their estimates.

Batch by batch, `Measurement.begin_batch` counts the samples and picks the chosen ones, a `Recorder`
copies their rows, and a `Planner` finds the order of the layers in the first batch. Then
`Measurement.results` gathers the rows of all ranks and runs the estimators, layer by layer.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_id.functional import Estimate
from lightning_id.functional.leading import Leading
from lightning_id.functional.registry import Estimator
from lightning_id.recording.batches import (
    count_samples,
    find_padding,
    labels_of,
    mask_of,
    pad_token_of,
    padding_in,
)
from lightning_id.recording.layers import INPUT, LAST_HIDDEN, called_modules
from lightning_id.recording.modules import device_of, named_layers
from lightning_id.recording.plan import Plan, Planner
from lightning_id.recording.processes import Processes, SingleProcess
from lightning_id.recording.recorder import Recorder
from lightning_id.recording.results import (
    Estimates,
    Fingerprint,
    LayerEstimates,
    LayerResult,
    as_kept,
    hashes_of_few,
    run_estimators,
)
from lightning_id.recording.rule import RowRule
from lightning_id.recording.samples import FixedSamples, ReservoirSamples
from lightning_id.recording.selection import Batch
from lightning_id.recording.storage import Limits, room_for_rows


@dataclass(frozen=True)
class Options:
    """How layers are recorded."""

    rule: RowRule = field(default_factory=RowRule)
    mask_key: str | int | None = None  # where in a batch the padding mask is
    smallest_class: int | None = None  # samples for estimates of a class; None for no classes
    limits: Limits = field(default_factory=Limits)  # of the rows; free memory if `is_limit_free`
    is_limit_free: bool = False  # `recording.storage.room_for_rows` computes the limits
    may_project: bool = False  # rows that exceed the limits
    is_input_named: bool = True  # an input of token ids then has a reason, and is not left out


@dataclass(frozen=True)
class _LayerRows:
    """The rows of a layer on this rank and the features they had, or why there are none."""

    rows: Float[Tensor, "r d"] | None
    width: int | None
    fingerprint: Fingerprint
    reason: str | None = None
    is_unchanged: bool = False  # since the last measurement, on all ranks


class Measurement:
    """Records the chosen samples of one pass and estimates every layer from them.

    Call `begin_batch` and `end_batch` around every batch, then iterate over `results`. Hooks are on
    the model only between `begin_batch` and `end_batch`. `names` are the chosen modules and
    pseudo-layers, and the names they are shown under; `plan` is that of an earlier measurement,
    None to make it from the first batch. The input of the last Linear is the last hidden
    representation unless a layer is named. `kept` are the estimates of the last measurement by
    layer: they are returned again where the rows did not change, and replaced by the new ones.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Mapping[str, str],
        samples: FixedSamples | ReservoirSamples,
        options: Options | None = None,
        plan: Plan | None = None,
        processes: Processes | None = None,
        last_hidden: str | None = None,
        kept: dict[str, LayerEstimates] | None = None,
    ) -> None:
        self.plan = plan
        self.nbytes: Counter[str] = Counter()  # on all ranks by place, from the first result on
        self._model = model
        self._names = dict(names)
        self._options = options or Options()
        self._processes = processes or SingleProcess()
        self._last_hidden = last_hidden
        self._kept = {} if kept is None else kept
        self._few: dict[str, Tensor] = {}  # hashes of some rows of every layer
        self._planner: Planner | None = None
        self._estimating = 0.0  # seconds
        self._needs_all = True  # eigenvalues
        self._n_batches = 0
        self._pad_token = pad_token_of(model)
        self._padding_key = ""  # of a mask in the batches that is not used
        self._start(samples)

    def _start(self, samples: FixedSamples | ReservoirSamples) -> None:
        """Start with a choice of samples, none of which has been recorded."""
        options, size = self._options, self._processes.size
        limits = options.limits
        if options.is_limit_free:
            limits = room_for_rows(limits, samples.equal_share * size)
        may_project = options.may_project and options.rule.max_features is None
        projected = None if self.plan is None else self.plan.projected
        self._samples = samples
        self._recorder = Recorder(
            called_modules(self._model, self._names),
            samples,
            options.rule,
            limits,
            self._model,
            -(-samples.n_asked // size),
            projected if may_project else frozenset(),
        )
        self._labels = torch.zeros(samples.n_samples, dtype=torch.long)
        self._n_labels = 0  # known so far: slots fill from the first

    def begin_batch(self, batch: Any) -> None:
        """Add the hooks for a batch that is about to pass through the model."""
        size = self._count(batch)
        rows, slots = self._samples.next_batch(size)
        key = self._options.mask_key
        if key is None:
            padding = find_padding(batch, size, self._pad_token)
            here = Batch(size, rows, slots, None, padding, self._n_padded(batch, size))
        else:
            here = Batch(size, rows, slots, mask_of(batch, key, size))
        if self._options.rule.reduce == "tokens" and isinstance(self._samples, ReservoirSamples):
            here = replace(here, rows=torch.arange(size), slots=torch.arange(size))
        self._recorder.begin(here, self._given())
        if self._options.smallest_class is not None and len(rows):
            self._labels[slots] = labels_of(batch, size)[rows]
            self._n_labels = max(self._n_labels, int(slots.max()) + 1)
        if self.plan is None:
            self._planner = Planner(
                self._model,
                batch,
                self._names,
                self._recorder,
                self._options.is_input_named,
                finds_last_hidden=self._last_hidden is None,
            )

    def end_batch(self) -> None:
        """Remove the hooks and keep the recorded rows."""
        if self._planner is not None:
            self.plan = self._planner.finish()
            self._planner = None
        self._recorder.end()

    def cancel(self) -> None:
        """Remove the hooks. Idempotent; safe to call at any point."""
        self._planner = None
        self._recorder.cancel()

    @property
    def seconds(self) -> float:
        """Seconds spent so far: on copying rows in the hooks, and on estimating."""
        return self._recorder.seconds + self._estimating

    def results(
        self, estimators: Mapping[str, Estimator], needs_spectra: bool = True
    ) -> Iterator[LayerResult]:
        """Yield the result of each layer, identical on all ranks, and free its rows."""
        # Unless spectra are needed, leading eigenvalues count components; ranks must agree.
        self._needs_all = needs_spectra or self._processes.size > 1
        plan = self._gathered_plan()
        same = self._layer_equal_to_last_hidden(plan)
        labels = self._gathered_labels()
        names = [name for name in plan.order if name != LAST_HIDDEN or same is None]
        start = time.perf_counter()
        self._few = hashes_of_few((name, self._recorder.rows(name)) for name in names)
        self._estimating += time.perf_counter() - start
        for order, name in enumerate(names):
            start = time.perf_counter()
            result = self._result(name, order, plan, estimators, labels)
            self._estimating += time.perf_counter() - start
            if name in (LAST_HIDDEN, same, self._last_hidden):
                result.role = LAST_HIDDEN
            elif name == self._names.get(INPUT):
                result.role = INPUT
            self._recorder.storage.discard(name)
            yield result

    def _result(
        self,
        name: str,
        order: int,
        plan: Plan,
        estimators: Mapping[str, Estimator],
        labels: list[int],
    ) -> LayerResult:
        """Estimate one layer, and its classes if its rows have labels."""
        layer = self._gathered_rows(name, plan, labels)
        if layer.rows is None:
            reasons = dict.fromkeys(estimators, Estimate(reason=layer.reason))
            found = Estimates(estimates=reasons)
        else:
            found = self._kept_or_new(name, layer, layer.rows, estimators, labels)
        selector = self._recorder.selector(name)
        return LayerResult(
            name,
            None,
            order,
            plan.depths.get(name),
            layer.width,
            notes=self._notes(name, layer, plan),
            batch_notes=self._batch_notes(name),
            rule_notes=selector.rule_notes(),
            padding_notes=selector.padding_notes(),
            **vars(found),
        )

    def _kept_or_new(
        self,
        name: str,
        layer: _LayerRows,
        rows: Float[Tensor, "r d"],
        estimators: Mapping[str, Estimator],
        labels: list[int],
    ) -> Estimates:
        """Return the last estimates if the rows are the same, else run the estimators."""
        last = self._kept.pop(name, None)
        if last and layer.is_unchanged and last.found.estimates.keys() == set(estimators):
            self._kept[name] = last
            return as_kept(last.found)
        leading = replace(
            Leading() if last is None else last.leading, needs_all=self._needs_all, spectrum=None
        )
        found = run_estimators(rows, estimators, self._processes, leading)
        slots = self._recorder.slots(name)
        of_rows = self._labels[:0] if slots is None else self._labels[slots]
        for label in () if self._options.rule.has_own_samples(name) else labels:
            if found.is_aborted:
                break
            of_class = rows[(of_rows == label).to(rows.device)]
            found.add_class(label, run_estimators(of_class, estimators, self._processes))
        if not found.errors:  # an estimator that failed is tried again
            self._kept[name] = LayerEstimates(layer.fingerprint, found, leading)
        return found

    # --- batches ----------------------------------------------------------------------------------

    def _count(self, batch: Any) -> int:
        """Return how many samples a batch holds; start anew if the first one shows another size."""
        axis = self._options.rule.axis_of(self._names.get(INPUT, INPUT)) or 0
        expected = self._samples.next_size
        size = count_samples(batch, axis, expected)
        self._n_batches += 1
        if expected is not None and size != expected and self._n_batches == 1:
            # A sample of the data set is not a sample of the batch: how many come is not known.
            assert self._samples.otherwise is not None
            self._start(self._samples.otherwise)
        return 1 if expected == 1 and self._n_batches > 1 else size

    def _given(self) -> dict[str, nn.Module]:
        """Return the modules whose input is recorded."""
        if self.plan is None:
            return {}
        modules = {"": self._model, **named_layers(self._model)}
        return {name: modules[given] for name, given in self.plan.given.items()}

    def _n_padded(self, batch: Any, size: int) -> int | None:
        """Return the tokens of each sample, if padding that the batch marks is recorded."""
        found = padding_in(batch, size)
        if found is None:
            return None
        self._padding_key, mask = found
        # The first token is padding only if it stands before the text.
        has_padding = self._options.rule.reduce != "cls" or not bool(mask[:, 0].all())
        return mask.shape[1] if has_padding else None

    # --- gathered from all ranks ------------------------------------------------------------------

    def _gathered_plan(self) -> Plan:
        """Return the plan of the first rank that has met a batch."""
        here = self.plan, self._recorder.projected, self._recorder.storage.nbytes()
        plans, chosen, sizes = zip(*self._processes.all_gather(here), strict=True)
        self.nbytes = sum(sizes, Counter())
        made = next((plan for plan in plans if plan is not None), None)
        projected = next((names for names in chosen if names is not None), None)
        if made is not None:
            self.plan = replace(made, projected=projected)
        return self.plan or Plan()

    def _gathered_labels(self) -> list[int]:
        """Return the labels of the classes that have enough samples on all ranks together."""
        if self._options.smallest_class is None:
            return []
        counts: Counter[int] = Counter()
        for here in self._processes.all_gather(Counter(self._labels[: self._n_labels].tolist())):
            counts += here
        return sorted(k for k, count in counts.items() if count >= self._options.smallest_class)

    def _gathered_rows(self, name: str, plan: Plan, labels: list[int]) -> _LayerRows:
        """Return the rows recorded here, or why the layer has none on all ranks together."""
        rows, width = self._recorder.rows(name), self._recorder.selector(name).width
        kind = None if rows is None else (rows.shape[1], rows.dtype, width)
        before = self._kept[name].fingerprint if name in self._kept else None
        slots = self._recorder.slots(name)
        of_classes = labels, self._labels[slots].tolist() if labels and slots is not None else []
        fingerprint = Fingerprint.of(rows, self._few.get(name), of_classes, before)
        gathered = self._processes.all_gather(
            (kind, self._recorder.failures.get(name), fingerprint.equals(before))
        )
        failures = [failure for _, failure, _ in gathered if failure is not None]
        kinds = {kind for kind, _, _ in gathered if kind is not None}
        if len(kinds) > 1:
            failures.append(f"expected rows of one width and dtype in all processes, got {kinds}")
        elif not kinds:
            failures.append(plan.reasons.get(name, "no batch held a chosen sample"))
        if failures:
            return _LayerRows(None, width, fingerprint, failures[0])
        ((columns, dtype, width),) = kinds
        if rows is None:  # no chosen sample was in a batch of this rank
            rows = torch.empty((0, columns), dtype=dtype, device=device_of(self._model))
        is_unchanged = all(equal for _, _, equal in gathered)
        return _LayerRows(rows, width, fingerprint, is_unchanged=is_unchanged)

    def _layer_equal_to_last_hidden(self, plan: Plan) -> str | None:
        """Return the last layer whose rows equal the input of the last Linear, if any does."""
        given = self._recorder.rows(LAST_HIDDEN)
        rows = ((name, self._recorder.rows(name)) for name in plan.order if name != LAST_HIDDEN)
        equal: set[str] | None = None
        if given is not None:
            equal = {name for name, x in rows if x is not None and torch.equal(x, given)}
        gathered = [names for names in self._processes.all_gather(equal) if names is not None]
        common = set.intersection(*gathered) if gathered else set()
        return next((name for name in reversed(plan.order) if name in common), None)

    # --- layers -----------------------------------------------------------------------------------

    def _notes(self, name: str, layer: _LayerRows, plan: Plan) -> list[str]:
        n_calls, width = self._recorder.calls.get(name, 0), layer.width or 0
        kept = width if layer.rows is None else layer.rows.shape[1]
        called = f"called {n_calls} times for each batch: the first call is measured"
        projected = f"a random projection of its {width} features to {kept}"
        if name in (plan.projected or ()):
            projected += ", because all rows together would not fit into memory"
        notes = {called: n_calls > 1 and layer.rows is not None, projected: kept < width}
        caveats = self._recorder.selector(name).caveats()
        return [note for note, holds in notes.items() if holds] + caveats

    def _batch_notes(self, name: str) -> list[str]:
        notes = [] if self._samples.note is None else [self._samples.note]
        if self._recorder.selector(name).holds_padding:
            is_flat = self._options.rule.reduce == "flatten"
            other = " with a reduce such as 'mean', 'last' or 'tokens'" * is_flat
            notes.append(
                "the rows hold the padding that the batches mark:"
                f" mask_key={self._padding_key!r}{other} leaves it out"
            )
        return notes
