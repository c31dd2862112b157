"""One measurement: sample sets are recorded, estimated layer by layer, compared, and kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.keys import metrics_of
from lightning_id.callback.settings import SampleSet, Settings
from lightning_id.callback.trainers import AnyTrainer, is_compiled, logger_step, stage_of
from lightning_id.functional.change import Change, change_of_estimates
from lightning_id.functional.estimate import Estimate, Influence
from lightning_id.functional.registry import Estimator
from lightning_id.history import BEFORE_TRAINING, History, Record, Validation
from lightning_id.recording.measurement import Measurement
from lightning_id.recording.passes import ChosenBatches
from lightning_id.recording.plan import Plan
from lightning_id.recording.processes import Processes, rank_here
from lightning_id.recording.results import Changes, LayerEstimates, LayerResult
from lightning_id.recording.samples import FixedSamples, ReservoirSamples, samples_of

_Key = tuple[str, str, str]  # sample set, layer, estimator
_Kept = tuple[float, Tensor, Tensor]  # value; shares and neighbours of its influence


@dataclass
class Comparisons:
    """Keeps the first, the previous and the lowest estimate, and compares each new one with them.

    Of estimators with an error bar; the first is that of the first measurement with an estimate.
    """

    first: dict[_Key, _Kept] = field(default_factory=dict)
    previous: dict[_Key, _Kept] = field(default_factory=dict)
    lowest: dict[_Key, _Kept] = field(default_factory=dict)

    def compare(self, data: str, result: LayerResult) -> None:
        """Write the changes of a layer into its result, and keep its estimates for the next."""
        for name, estimate in result.estimates.items():
            influence = estimate.influence
            if estimate.reason is not None or influence is None:
                continue
            key = data, result.layer, name
            if key in self.first:
                before = self.first[key], self.previous[key], self.lowest[key]
                result.changes[name] = Changes(*(_change(each, estimate) for each in before))
            kept = estimate.value, influence.shares, influence.neighbors.int()
            self.previous[key] = kept
            self.first.setdefault(key, kept)
            if estimate.value <= self.lowest.setdefault(key, kept)[0]:
                self.lowest[key] = kept

    def state_dict(self) -> dict[str, Any]:
        """Return the estimates in plain types, which ``torch.load(weights_only=True)`` reads."""
        return {name: dict(kept) for name, kept in vars(self).items()}


@dataclass(frozen=True)
class Moment:
    """When a measurement is made."""

    validation: Validation
    in_validation: bool  # whether a validation or test runs, which logs metrics of its own

    @classmethod
    def now(cls, trainer: AnyTrainer, in_validation: bool = True) -> "Moment":
        """Return the current moment of a Trainer."""
        is_at_start = not in_validation and trainer.global_step == 0
        stage = BEFORE_TRAINING if trainer.sanity_checking or is_at_start else stage_of(trainer)
        step = logger_step(trainer) if in_validation else trainer.global_step
        return cls(Validation(stage, trainer.current_epoch, step), in_validation)

    @property
    def logs_directly(self) -> bool:
        """Whether the loggers are called without Lightning, which would drop the metrics."""
        # It drops metrics logged in a sanity check, and most metrics logged between validations.
        return not self.in_validation or self.validation.stage == BEFORE_TRAINING


Start = Callable[[Iterable[Any]], tuple[Iterable[Any], Measurement]]  # of a loader


@dataclass
class Carried:
    """Plans and estimates that a measurement takes over from the one before."""

    plans: dict[str, Plan] = field(default_factory=dict)  # of the layers, by sample set
    kept: dict[str, dict[str, LayerEstimates]] = field(default_factory=dict)  # by set and layer
    comparisons: Comparisons = field(default_factory=Comparisons)
    _made_for: tuple[int, tuple[str, ...]] | None = None  # model and layers

    def renew(self, module: nn.Module, names: Iterable[str]) -> None:
        """Drop the plans of other layers, and everything of another model."""
        new, old = (id(module), tuple(names)), self._made_for
        if new != old:
            self.plans, self.kept, self._made_for = {}, {}, new
            if old is not None and new[0] != old[0]:
                self.comparisons = Comparisons()


@dataclass(eq=False)
class RunningMeasurement:
    """Records and estimates the sample sets of one measurement, by hooks or by a pass each."""

    model: nn.Module
    layers: tuple[dict[str, str], str | None]  # of `Settings.select`
    settings: Settings
    sets: Sequence[SampleSet]
    moment: Moment
    carried: Carried
    failures: FailurePolicy
    processes: Processes
    pass_set: Callable[[Any, Start], None]  # of a loader or the name of one
    surroundings: ExitStack = field(default_factory=ExitStack)
    results: dict[SampleSet, list[LayerResult]] = field(default_factory=dict)
    nbytes: dict[str, Mapping[str, int]] = field(default_factory=dict)  # of the rows, by set
    _measurements: dict[str, Measurement] = field(default_factory=dict)
    _seconds: float = 0.0  # of measurements that were dropped or are done
    _hooked: str = ""  # the set that hooks record

    def __post_init__(self) -> None:
        """Take over the plans of the measurement before, if it was of the same layers."""
        self.carried.renew(self.model, self.layers[0])
        self.plans = self.carried.plans
        self._options = self.settings.options_of(self.model, self.processes)
        self._pending = list(self.sets)  # to be passed through the model
        if any(is_compiled(each) for each in self.model.modules()):
            # A compiled graph never runs hooks added later: run eagerly during the measurement.
            self.surroundings.enter_context(torch.compiler.set_stance("force_eager"))

    def hook(self, each: SampleSet, find_loader: Callable[[], tuple[Any, int | float]]) -> None:
        """Let `begin_batch` and `end_batch` record a set, in place of a pass."""
        self._pending.remove(each)
        with self.failures.guard("prepare a measurement", partial(self._drop, each.name)):
            n_samples, seed = self.settings.n_samples, self.settings.seed
            self._new(each.name, samples_of(*find_loader(), n_samples, seed))
            self._hooked = each.name

    def pass_sets(self) -> None:
        """Pass the sets that no hook records through the model; later calls do nothing."""
        while self._pending:
            each = self._pending.pop(0)
            with self.failures.guard("pass the samples", partial(self._drop, each.name)):
                self.pass_set(each.loader, partial(self._start, each.name))

    def begin_batch(self, batch: Any) -> None:
        """Add the hooks for a batch of the running loader that holds a chosen sample."""
        self._record(lambda measurement: measurement.begin_batch(batch))

    def end_batch(self) -> None:
        """Remove the hooks."""
        self._record(Measurement.end_batch)

    def estimate(
        self,
        estimators: Mapping[str, Estimator],
        history: History,
        compares: bool = True,
        defers_spectra: bool = False,
    ) -> None:
        """Estimate set after set, free the rows, and add the records to the history."""
        self.pass_sets()
        try:
            for each in self.sets:
                if self._is_recorded_everywhere(each.name):
                    measurement = self._measurements[each.name]
                    needs_spectra = not (defers_spectra and history.spectra_by_set.get(each.name))
                    add_results(
                        measurement.results(estimators, needs_spectra),
                        self.results.setdefault(each, []),
                        history,
                        self.moment.validation,
                        each.name,
                        self._options.rule.reduce,
                        self.carried.comparisons if compares else None,
                        self.failures,
                    )
                    self.nbytes[each.name] = measurement.nbytes
                    if measurement.plan is not None:
                        self.plans[each.name] = measurement.plan
                self._drop(each.name)
        finally:
            for results in self.results.values():
                self.failures.report_layers(results)

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return the metrics to log, of all sets."""
        metrics: dict[str, float] = {}
        for each, results in self.results.items():
            metrics |= metrics_of(results, f"{prefix}{each.key_prefix}")
        return metrics

    @property
    def seconds(self) -> float:
        """Seconds spent so far: on copying rows in the hooks, and on estimating."""
        return self._seconds + sum(each.seconds for each in self._measurements.values())

    def cancel(self) -> None:
        """Remove all hooks and free all rows. Idempotent; safe to call at any point."""
        for name in list(self._measurements):
            self._drop(name)
        self._pending.clear()
        self.surroundings.close()

    def _start(self, name: str, loader: Iterable[Any]) -> tuple[Iterable[Any], Measurement]:
        """Return the chosen batches of a loader, and the measurement that records them."""
        size = self.processes.size
        rank = rank_here() if size > 1 else 0
        n_samples, seed = self.settings.n_samples, self.settings.seed
        chosen = ChosenBatches(loader, n_samples, seed, rank, size)
        return chosen.batches, self._new(name, chosen.samples)

    def _new(self, name: str, samples: FixedSamples | ReservoirSamples) -> Measurement:
        names, last_hidden = self.layers
        self._measurements[name] = Measurement(
            self.model,
            names,
            samples,
            self._options,
            self.plans.get(name),
            self.processes,
            last_hidden,
            self.carried.kept.setdefault(name, {}),
        )
        return self._measurements[name]

    def _record(self, action: Callable[[Measurement], None]) -> None:
        """Run an action of the measurement that hooks record, if there is one."""
        name = self._hooked
        if name in self._measurements:
            with self.failures.guard("record a batch", partial(self._drop, name)):
                action(self._measurements[name])

    def _is_recorded_everywhere(self, name: str) -> bool:
        """Check on all ranks whether any rank dropped the set; if so, it is dropped here too."""
        if all(self.processes.all_gather(name in self._measurements)):
            return True
        if name in self._measurements:
            self.failures.report_once("another rank aborted the measurement: see its log")
        return False

    def _drop(self, name: str) -> None:
        measurement = self._measurements.pop(name, None)
        if measurement is not None:
            measurement.cancel()
            self._seconds += measurement.seconds


def add_results(
    results: Iterable[LayerResult],
    done: list[LayerResult],
    history: History,
    validation: Validation,
    data: str,
    reduce: str,
    comparisons: Comparisons | None,
    failures: FailurePolicy,
) -> None:
    """Add each result to the history and to ``done`` as soon as it is estimated."""
    n_records = len(history.records)
    for result in results:
        done.append(result)
        # Notes on the batches mean that other samples are measured at every validation.
        if comparisons is not None and not result.batch_notes:
            comparisons.compare(data, result)
        for fields in result.records():
            history.append(**validation._asdict(), data=data, reduce=reduce, **fields)
        for text in result.batch_notes:
            failures.report_once(text)
        if failures.on_error == "raise" and result.errors:
            name, error = next(iter(result.errors.items()))
            raise RuntimeError(f"{name} of layer {result.layer!r} failed: {error!r}") from error
    compare_layers(done, history.records[n_records:])
    spectra = {r.layer: r.spectrum for r in done if r.spectrum is not None}
    if spectra:
        history.keep_spectra(validation, spectra, data)


def compare_layers(results: Sequence[LayerResult], records: Iterable[Record]) -> None:
    """Write the paired differences from the first layer and from the peak into the records."""
    # Layers whose rows are not the samples are left out.
    estimates: dict[str, dict[str, Estimate]] = {}
    for result in results:
        for name, estimate in result.estimates.items() if not result.rule_notes else ():
            if estimate.reason is None and estimate.influence is not None:
                estimates.setdefault(name, {})[result.layer] = estimate
    for record in records:
        of_layers = estimates.get(record["estimator"], {})
        if record["layer"] not in of_layers or record["label"] is not None:
            continue
        here = of_layers[record["layer"]]
        first, peak = next(iter(of_layers.values())), max(of_layers.values(), key=float)
        from_input = change_of_estimates(first, here)
        record["from_input"] = from_input.value
        record["from_input_std_error"] = from_input.std_error
        from_peak = change_of_estimates(peak, here)
        record["from_peak"] = from_peak.value
        record["from_peak_std_error"] = from_peak.std_error


def _change(before: _Kept, after: Estimate) -> Change:
    value, shares, neighbors = before
    earlier = Estimate(value, influence=Influence(shares, neighbors.long()))
    return change_of_estimates(earlier, after)
