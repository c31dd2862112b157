"""One measurement: a pass over the data with the recorder on, then the estimates of every layer."""

import math
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_id.functional import Estimate, Geometry
from lightning_id.functional.ratios import CoarseFeaturesWarning
from lightning_id.recording.batches import count_samples, labels_of, mask_of, padding_in
from lightning_id.recording.hooks import Hooks
from lightning_id.recording.inputs import InputSearch
from lightning_id.recording.layers import INPUT, LAST_HIDDEN, PSEUDO
from lightning_id.recording.memory import room_for_rows
from lightning_id.recording.modules import called_module, named_layers, why_never_called
from lightning_id.recording.processes import Processes, SingleProcess
from lightning_id.recording.recorder import KeptRows, Recorder, laid_out_as
from lightning_id.recording.rows import RowRule
from lightning_id.recording.samples import FixedSamples, ReservoirSamples
from lightning_id.recording.storage import Limits
from lightning_id.recording.trace import Trace

Estimator = Callable[[Geometry], Estimate]


@dataclass(frozen=True)
class Options:
    """What is recorded of each layer, and how.

    Attributes:
        rule: How an output becomes rows.
        mask_key: Where in a batch the padding mask is; None if there is none.
        smallest_class: Samples that a class must have to be estimated by itself; None for no
            classes.
        limits: See `lightning_id.recording.storage.Storage`; the free memory, if ``is_limit_free``.
        is_limit_free: Whether `recording.memory.room_for_rows` computes the limits.
        may_project: Whether rows that do not fit into the limits may be projected.
        is_input_named: Whether ``"input"`` was asked for: token ids then are a reason.
    """

    rule: RowRule = field(default_factory=RowRule)
    mask_key: str | int | None = None
    smallest_class: int | None = None
    limits: Limits = field(default_factory=Limits)
    is_limit_free: bool = False
    may_project: bool = False
    is_input_named: bool = True


@dataclass
class Plan:
    """What is known of the layers of a model after one forward pass.

    Attributes:
        order: Names of the layers in the order of execution, those that were never called last.
        depths: Relative depth by name; no entry for a layer that was never called.
        given: Modules whose input is recorded, by the name of the pseudo-layer; ``""`` is the
            model.
        reasons: Why a pseudo-layer is not there.
        projected: Layers of which a random projection is recorded because their rows do not fit
            into memory, in all later measurements too; None if that is not known yet.
    """

    order: list[str]
    depths: dict[str, float]
    given: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    projected: frozenset[str] | None = None


@dataclass
class LayerResult:
    """The estimates of one layer.

    Attributes:
        layer: Its name.
        role: ``"input"``, ``"last_hidden"`` or None.
        order: Its place in the order of execution.
        depth: Its relative depth; None if it was never called.
        ambient_dimension: Features a row has; None if nothing was recorded.
        estimates: By the name of the estimator.
        per_class: The same of the samples of one class, by label.
        spectrum: Eigenvalues of the covariance, where an estimator asked for them.
        seconds: Time that each took; what is shared is in the first.
        errors: What was raised, by the name of the estimator.
        notes: Caveats about how the rows of this layer were obtained.
        batch_notes: Caveats about the batches, alike for all layers that they concern.
        rule_notes: What `rows_per_sample` made of the rows: in the records, but no remark.
    """

    layer: str
    role: str | None
    order: int
    depth: float | None
    ambient_dimension: int | None
    estimates: dict[str, Estimate] = field(default_factory=dict)
    per_class: dict[int, dict[str, Estimate]] = field(default_factory=dict)
    spectrum: Float[Tensor, " r"] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    batch_notes: list[str] = field(default_factory=list)
    rule_notes: list[str] = field(default_factory=list)

    def records(self) -> Iterator[dict[str, Any]]:
        """Return the columns of a history that are known of the layer.

        Yields:
            One dictionary for each estimator, then for each class and estimator.
        """
        layer = {
            "layer": self.layer,
            "role": self.role,
            "order": self.order,
            "depth": self.depth,
            "ambient_dimension": self.ambient_dimension,
        }
        for name, estimate in self.estimates.items():
            notes = [*self.batch_notes, *self.rule_notes, *self.notes]
            notes += [estimate.note] if estimate.note else []
            fields = estimate.to_dict() | {"note": "; ".join(notes) or None}
            yield {**layer, "estimator": name, "seconds": self.seconds.get(name), **fields}
        for label, estimates in self.per_class.items():
            for name, estimate in estimates.items():
                yield {**layer, "label": str(label), "estimator": name, **estimate.to_dict()}

    def remarks(self) -> Iterator[str]:
        """Return what a reader of the numbers must be told.

        Yields:
            Why estimators have no number, one reason once; what was noted.
        """
        for name, estimate in self.estimates.items():
            if estimate.reason is None and estimate.note is not None:
                yield f"{name} dimension: {estimate.note}"
        for reason in dict.fromkeys(e.reason for e in self.estimates.values() if e.reason):
            names = [name for name, e in self.estimates.items() if e.reason == reason]
            yield f"no {' or '.join(names)} dimension: {reason}"
        yield from self.notes


class Measurement:
    """Records the chosen samples of one pass and estimates every layer from them.

    Call `begin_batch` and `end_batch` around every batch, then go through `results`. `cancel` may
    come at any time. The hooks are on the model only between `begin_batch` and `end_batch`.

    Args:
        model: The model whose layers are measured.
        names: Chosen modules and pseudo-layers, and the names they are shown under.
        samples: The chosen samples.
        options: What is recorded of each layer, and how.
        plan: What an earlier measurement learnt of the layers; None to learn it from the first
            batch.
        processes: Those that record a part of the samples each.
        last_hidden: The layer, by the name it is shown under, whose output is the last hidden
            representation; None for the input of the last Linear.

    Attributes:
        plan: Order and depth of the layers, from the first batch on.
        nbytes: Bytes of the rows on all ranks by the place where they are kept, when the first
            result is made.
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
    ) -> None:
        self.plan = plan
        self.nbytes: Counter[str] = Counter()
        self._last_hidden = last_hidden
        self._estimating = 0.0
        self._model = model
        self._names = dict(names)
        self._options = options or Options()
        self._processes = processes or SingleProcess()
        modules = named_layers(model)
        self._modules = {
            names[name]: called_module(model, modules[name]) for name in names if name not in PSEUDO
        }
        self._n_batches = 0
        self._padding = ""  # where the batches have a mask that is not used
        self._choose(samples)
        self._tracing = ExitStack()
        self._trace: Trace | None = None
        self._search: InputSearch | None = None

    def _choose(self, samples: FixedSamples | ReservoirSamples) -> None:
        """Begin with a choice of samples, of which none has been recorded."""
        self._samples = samples
        limits, options = self._options.limits, self._options
        if options.is_limit_free:
            n_samples = samples.equal_share * self._processes.size
            limits = room_for_rows(limits, n_samples)
        may_project = options.may_project and options.rule.max_features is None
        projected = None if self.plan is None else self.plan.projected
        self._recorder = Recorder(
            self._modules,
            samples.n_samples,
            options.rule,
            limits,
            samples.draws,
            self._model,
            -(-samples.n_asked // self._processes.size),
            projected if may_project else frozenset(),
            samples.equal_share,
        )
        self._labels = torch.zeros(samples.n_samples, dtype=torch.long)
        self._labelled = 0  # how many of them are known: slots fill from the first

    def begin_batch(self, batch: Any) -> None:
        """Put the hooks on for a batch that is about to pass through the model.

        Args:
            batch: From the loader.
        """
        size = self._count(batch)
        rows, slots = self._samples.next_batch(size)
        key = self._options.mask_key
        mask = None if key is None else mask_of(batch, key, size)
        padded = self._unmasked(batch, size)
        self._recorder.begin(size, rows, slots, self._given(), mask, padded)
        if self._options.smallest_class is not None and len(rows):
            self._labels[slots] = labels_of(batch, size)[rows]
            self._labelled = max(self._labelled, int(slots.max()) + 1)
        if self.plan is None:
            self._watch(batch)

    def _watch(self, batch: Any) -> None:
        """Put hooks on all modules, to find out about the layers from this batch."""
        hooks = Hooks()
        self._tracing.callback(hooks.remove)
        if INPUT in self._names:
            self._search = InputSearch(self._store_input)
            self._search.attach(self._model, hooks)
        trace = Trace(self._modules)
        if self._last_hidden is None:
            trace.hold = self._keep_last_hidden
        self._trace = self._tracing.enter_context(trace.attach(self._model, batch))

    def _keep_last_hidden(
        self, given: Tensor, linear: nn.Module, before: KeptRows | None
    ) -> KeptRows | None:
        if before is not None and self._options.rule.rows_of(LAST_HIDDEN) != "chunks":
            return None
        return self._recorder.keep(LAST_HIDDEN, given, linear, before)

    def _store_input(self, given: Tensor, module: nn.Module) -> None:
        if given.is_floating_point() or self._options.is_input_named:
            self._recorder.record(self._names[INPUT], given, laid_out_as(module))

    def _count(self, batch: Any) -> int:
        """Return how many samples a batch holds."""
        axis = self._options.rule.axis_of(self._names.get(INPUT, INPUT)) or 0
        asked = self._samples.next_size
        size = count_samples(batch, axis, asked)
        self._n_batches += 1
        if asked is not None and size != asked and self._n_batches == 1:
            # One sample of the data set is not one of the batch: how many come is not known.
            assert self._samples.otherwise is not None
            self._choose(self._samples.otherwise)
        return 1 if asked == 1 and self._n_batches > 1 else size

    def _given(self) -> dict[str, nn.Module]:
        """Return the modules whose input is recorded."""
        modules = {"": self._model, **named_layers(self._model)}
        return {} if self.plan is None else {k: modules[v] for k, v in self.plan.given.items()}

    def end_batch(self) -> None:
        """Take the hooks off and keep what was recorded."""
        if self.plan is None and self._trace is not None:
            self._store_last_hidden(self._trace)
        self._recorder.end()
        self._tracing.close()
        if self.plan is None and self._trace is not None:
            self.plan = self._plan_from_trace(self._trace)
            self._trace = self._search = None

    def _store_last_hidden(self, trace: Trace) -> None:
        """Store the rows that the Linear was given which turns out to be the last."""
        for kept in trace.ends[0].held if trace.last_linear is not None else ():
            if kept is not None:
                self._recorder.record_kept(LAST_HIDDEN, kept)

    @property
    def seconds(self) -> float:
        """Time spent so far: on copying rows in the hooks, and on estimating."""
        return self._recorder.seconds + self._estimating

    def cancel(self) -> None:
        """Take the hooks off and forget what was recorded."""
        self._tracing.close()
        self._recorder.cancel()

    def results(self, estimators: Mapping[str, Estimator]) -> Iterator[LayerResult]:
        """Estimate layer after layer, in the order of execution, and free the rows of each.

        Args:
            estimators: Functions from a geometry to an estimate, by name.

        Yields:
            One result per layer. An estimator that raises gives an estimate with the reason.
        """
        plan = self._gathered_plan()
        equal = self._layer_equal_to_last_hidden(plan)
        classes = self._gathered_classes()
        shown = [name for name in plan.order if name != LAST_HIDDEN or equal is None]
        for order, name in enumerate(shown):
            rows, reason = self._gathered_rows(name, plan)
            is_last_hidden = name in (LAST_HIDDEN, equal, self._last_hidden)
            is_input = name == self._names.get(INPUT)
            role = LAST_HIDDEN if is_last_hidden else INPUT if is_input else None
            result = LayerResult(
                layer=name,
                role=role,
                order=order,
                depth=plan.depths.get(name),
                ambient_dimension=self._recorder.widths.get(name),
                notes=self._notes(name, rows),
                batch_notes=self._batch_notes(name),
                rule_notes=self._recorder.rule_notes(name),
            )
            if rows is None:
                result.estimates.update(dict.fromkeys(estimators, Estimate(reason=reason)))
            else:
                sound = _estimate(result, rows, estimators, self._processes)
                slots = self._recorder.slots(name)
                per_sample = self._options.rule.rows_of(name) != "all"
                for label in classes if per_sample else ():
                    if not sound:
                        break
                    labels = self._labels[:0] if slots is None else self._labels[slots]
                    mine = (labels == label).to(rows.device)
                    part = _without_results(result)
                    sound = _estimate(part, rows[mine], estimators, self._processes)
                    result.per_class[label] = part.estimates
                    result.errors.update(part.errors)
            self._recorder.discard(name)
            self._estimating += sum(result.seconds.values())
            yield result

    def _gathered_classes(self) -> list[int]:
        """Return the labels of the classes that have samples enough, over all processes."""
        if self._options.smallest_class is None:
            return []
        counts: Counter[int] = Counter()
        for here in self._processes.all_gather(Counter(self._labels[: self._labelled].tolist())):
            counts += here
        return sorted(k for k, count in counts.items() if count >= self._options.smallest_class)

    def _gathered_plan(self) -> Plan:
        """Return one plan for all processes: some may have met no batch."""
        here = self.plan, self._recorder.projected, self._recorder.nbytes()
        plans, chosen, sizes = zip(*self._processes.all_gather(here), strict=True)
        self.nbytes = sum(sizes, Counter())
        learnt = [plan for plan in plans if plan is not None]
        projected = next((names for names in chosen if names is not None), None)
        if learnt:
            self.plan = replace(learnt[0], projected=projected)
        return self.plan or Plan([], {})

    def _gathered_rows(
        self, name: str, plan: Plan
    ) -> tuple[Float[Tensor, "r d"] | None, str | None]:
        """Return the rows recorded here, or why the layer cannot be estimated: alike everywhere."""
        rows = self._recorder.rows(name)
        here = None if rows is None else (rows.shape[1], rows.dtype, self._recorder.widths[name])
        everywhere = self._processes.all_gather((here, self._recorder.failures.get(name)))
        failures = [failure for _, failure in everywhere if failure is not None]
        kinds = {kind for kind, _ in everywhere if kind is not None}
        if failures:
            return None, failures[0]
        if len(kinds) > 1:
            return None, f"expected rows of one width and dtype in all processes, got {kinds}"
        if not kinds:
            return None, plan.reasons.get(name, "no batch held a chosen sample")
        ((columns, dtype, width),) = kinds
        self._recorder.widths[name] = width
        if rows is None:  # no chosen sample came by here
            rows = torch.empty((0, columns), dtype=dtype, device=self._device())
        return rows, None

    def _device(self) -> torch.device:
        return next((p.device for p in self._model.parameters()), torch.device("cpu"))

    def _notes(self, name: str, rows: Float[Tensor, "r d"] | None) -> list[str]:
        calls = self._recorder.calls.get(name, 0)
        called = f"called {calls} times for each batch: the first call is measured"
        width = self._recorder.widths.get(name, 0)
        kept = width if rows is None else rows.shape[1]
        projected = f"a random projection of its {width} features to {kept}"
        if self.plan is not None and name in (self.plan.projected or ()):
            projected += ", because all rows together would not fit into memory"
        notes = {
            called: calls > 1 and rows is not None,
            projected: kept < width,
        }
        return [note for note, holds in notes.items() if holds] + self._recorder.notes(name)

    def _batch_notes(self, name: str) -> list[str]:
        notes = [] if self._samples.note is None else [self._samples.note]
        if name in self._recorder.padded:
            other = " with a reduce other than 'flatten'" * (self._options.rule.reduce == "flatten")
            notes.append(
                "the rows hold the padding that the batches mark:"
                f" mask_key={self._padding!r}{other} leaves it out"
            )
        return notes

    def _unmasked(self, batch: Any, size: int) -> int | None:
        """Return the tokens of each sample, if the rows hold padding that the batch marks."""
        found = None if self._options.mask_key is not None else padding_in(batch, size)
        if found is None:
            return None
        self._padding, mask = found
        # The first token is padding only if it stands before the text.
        has_padding = self._options.rule.reduce != "cls" or not bool(mask[:, 0].all())
        return mask.shape[1] if has_padding else None

    def _layer_equal_to_last_hidden(self, plan: Plan) -> str | None:
        """Return the layer whose output is what the last Linear was given, if it is measured."""
        given = self._recorder.rows(LAST_HIDDEN)
        equals = set()
        for name in plan.order:
            rows = self._recorder.rows(name)
            if name == LAST_HIDDEN or given is None or rows is None or rows.shape != given.shape:
                continue
            if torch.equal(rows, given):
                equals.add(name)
        found = self._processes.all_gather(equals if given is not None else None)
        known = [names for names in found if names is not None]
        common = set.intersection(*known) if known else set()
        return next((name for name in reversed(plan.order) if name in common), None)

    def _plan_from_trace(self, trace: Trace) -> Plan:
        names = {id(module): name for name, module in named_layers(self._model).items()}
        names[id(self._model)] = ""
        plan = Plan(list(trace.order), {name: trace.relative_depth(name) for name in trace.order})
        if self._last_hidden is None:
            _plan_last_hidden(plan, trace, names)
        if self._search is not None:
            self._plan_input(plan, self._search, names)
        never = [name for name in self._modules if name not in plan.depths]
        modules = named_layers(self._model)
        for name, shown in self._names.items():
            if shown in never:
                plan.reasons[shown] = why_never_called(self._model, modules[name])
        asked = [name for name in self._names if name == LAST_HIDDEN and name not in plan.order]
        plan.order += never + asked
        return plan

    def _plan_input(self, plan: Plan, search: InputSearch, names: Mapping[int, str]) -> None:
        name = self._names[INPUT]
        has_ids = search.input_dtype is not None and not search.input_dtype.is_floating_point
        if has_ids and not self._options.is_input_named:
            return  # no layer, and nothing amiss: the embedding is the first
        plan.depths[name] = 0.0
        plan.order.insert(0, name)
        if search.source is not None:
            plan.given[name] = names[id(search.source)]
        elif search.reason is not None:
            plan.reasons[name] = search.reason


def _plan_last_hidden(plan: Plan, trace: Trace, names: Mapping[int, str]) -> None:
    if trace.last_linear is None:
        plan.reasons[LAST_HIDDEN] = _why_no_last_hidden(trace, names)
        return
    depth = plan.depths[LAST_HIDDEN] = trace.relative_depth(LAST_HIDDEN)
    later = [i for i, name in enumerate(plan.order) if plan.depths[name] > depth]
    plan.order.insert(later[0] if later else len(plan.order), LAST_HIDDEN)
    plan.given[LAST_HIDDEN] = names[id(trace.last_linear)]


def _why_no_last_hidden(trace: Trace, names: Mapping[int, str]) -> str:
    ends = [f"{type(end.layer).__name__} {names[id(end.layer)]!r}" for end in trace.ends]
    if trace.failure is not None:
        return f"it could not be found out in which layer the network ends, {trace.failure!r}"
    if not ends:
        return "no layer with weights was called"
    if len(ends) == 1:
        return f"the network ends in {ends[0]}, not in a Linear"
    return f"the network has several ends, {', '.join(ends)}"


def _without_results(result: LayerResult) -> LayerResult:
    return replace(
        result,
        estimates={},
        per_class={},
        spectrum=None,
        seconds=result.seconds,
        errors={},
        notes=[],
        batch_notes=[],
        rule_notes=[],
    )


def _estimate(
    result: LayerResult,
    rows: Float[Tensor, "n d"],
    estimators: Mapping[str, Estimator],
    processes: Processes,
) -> bool:
    """Estimate one layer.

    A failure is data: the other estimators, the other layers and the training go on. What an
    estimator had made of the rows until it failed is not the same on all ranks, so the next one
    starts anew. Where the rows themselves cannot be worked on, all estimators share the failure.

    Returns:
        Whether the rows could be worked on.
    """
    geometry: Geometry | None = None
    for name, estimator in estimators.items():
        start = time.perf_counter()
        try:
            geometry = geometry or processes.geometry(rows)
            outcome = processes.estimate(partial(_run_estimator, name, estimator), geometry)
        except Exception as error:
            _forget_locals(error)
            for other in [other for other in estimators if other not in result.estimates]:
                result.errors[other] = error
                result.estimates[other] = _failed(error, rows)
            return False
        finally:
            spent = time.perf_counter() - start
            result.seconds[name] = result.seconds.get(name, 0.0) + spent
        if isinstance(outcome, Exception):
            _forget_locals(outcome)
            geometry = None
            result.errors[name] = outcome
            result.estimates[name] = _failed(outcome, rows)
            continue
        result.estimates[name] = outcome
        if geometry.known_spectrum is not None:
            result.spectrum = geometry.known_spectrum
    return True


def _failed(error: Exception, rows: Float[Tensor, "n d"]) -> Estimate:
    return Estimate(reason=repr(error), n_samples=len(rows))


def _forget_locals(error: Exception) -> None:
    """Free the tensors that the frames of an error hold: the next estimator needs the memory."""
    traceback.clear_frames(error.__traceback__)


def _checked(name: str, estimate: Any) -> Estimate:
    if not isinstance(estimate, Estimate):
        raise TypeError(
            f"expected an Estimate of {name}, got {type(estimate).__name__}; return"
            " dataclasses.replace(geometry.estimate(distinct=False), value=...)"
        )
    if estimate.reason is None and not math.isfinite(estimate.value):
        return replace(estimate, reason=f"{name} gave {estimate.value} and no reason")
    return estimate


def _run_estimator(name: str, estimator: Callable[[Geometry], Any], geometry: Geometry) -> Estimate:
    with warnings.catch_warnings():
        # The callback warns itself, with the name of the layer.
        warnings.simplefilter("ignore", CoarseFeaturesWarning)
        return _checked(name, estimator(geometry))
