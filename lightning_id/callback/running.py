"""One measurement: all sample sets are recorded, then estimated layer by layer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from lightning_id.callback.comparisons import Comparisons
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.keys import metrics_of
from lightning_id.callback.records import add_results
from lightning_id.callback.sets import SampleSet
from lightning_id.callback.settings import Settings
from lightning_id.callback.trainers import AnyTrainer, is_compiled, logger_step, stage_of
from lightning_id.functional.registry import Estimator
from lightning_id.history import BEFORE_TRAINING, History, Validation
from lightning_id.recording.kept import LayerEstimates
from lightning_id.recording.measurement import Measurement
from lightning_id.recording.passes import ChosenBatches
from lightning_id.recording.plan import Plan
from lightning_id.recording.processes import Processes, rank_here
from lightning_id.recording.results import LayerResult
from lightning_id.recording.samples import FixedSamples, ReservoirSamples, samples_of


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
                self.comparisons.clear()


class RunningMeasurement:
    """Records and estimates the sample sets of one measurement, by hooks or by a pass each."""

    def __init__(
        self,
        model: nn.Module,
        layers: tuple[dict[str, str], str | None],
        settings: Settings,
        sets: Sequence[SampleSet],
        moment: Moment,
        carried: Carried,
        failures: FailurePolicy,
        processes: Processes,
        pass_set: Callable[[Any, Start], None],  # of a loader or the name of one
    ) -> None:
        self.moment = moment
        self.surroundings = ExitStack()
        self.results: dict[SampleSet, list[LayerResult]] = {}
        self.nbytes: dict[str, Mapping[str, int]] = {}  # of the rows, by set
        self._model = model
        self._names, self._last_hidden = layers
        self._settings = settings
        self._carried = carried
        carried.renew(model, self._names)
        self.plans = carried.plans
        self._failures = failures
        self._processes = processes
        self._pass = pass_set
        self._options = settings.options_of(model, processes)
        self._measurements: dict[str, Measurement] = {}
        self._seconds = 0.0  # of measurements that were dropped or are done
        self._hooked = ""  # the set that hooks record
        self._sets = sets
        self._pending = list(sets)  # to be passed through the model
        if any(is_compiled(each) for each in model.modules()):
            # A compiled graph never runs hooks added later: run eagerly during the measurement.
            self.surroundings.enter_context(torch.compiler.set_stance("force_eager"))

    def hook(self, each: SampleSet, find_loader: Callable[[], tuple[Any, int | float]]) -> None:
        """Let `begin_batch` and `end_batch` record a set, in place of a pass."""
        self._pending.remove(each)
        with self._failures.guard("prepare a measurement", partial(self._drop, each.name)):
            n_samples, seed = self._settings.n_samples, self._settings.seed
            self._new(each.name, samples_of(*find_loader(), n_samples, seed))
            self._hooked = each.name

    def pass_sets(self) -> None:
        """Pass the sets that no hook records through the model; later calls do nothing."""
        while self._pending:
            each = self._pending.pop(0)
            with self._failures.guard("pass the samples", partial(self._drop, each.name)):
                self._pass(each.loader, partial(self._start, each.name))

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
        """Estimate set after set, free the rows, and add the records to the history.

        The estimates are compared with the ones before; spectra after the first may be deferred.
        """
        self.pass_sets()
        try:
            for each in self._sets:
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
                        self._carried.comparisons if compares else None,
                        self._failures,
                    )
                    self.nbytes[each.name] = measurement.nbytes
                    if measurement.plan is not None:
                        self.plans[each.name] = measurement.plan
                self._drop(each.name)
        finally:
            for results in self.results.values():
                self._failures.report_layers(results)

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
        size = self._processes.size
        rank = rank_here() if size > 1 else 0
        n_samples, seed = self._settings.n_samples, self._settings.seed
        chosen = ChosenBatches(loader, n_samples, seed, rank, size)
        return chosen.batches, self._new(name, chosen.samples)

    def _new(self, name: str, samples: FixedSamples | ReservoirSamples) -> Measurement:
        self._measurements[name] = Measurement(
            self._model,
            self._names,
            samples,
            self._options,
            self.plans.get(name),
            self._processes,
            self._last_hidden,
            self._carried.kept.setdefault(name, {}),
        )
        return self._measurements[name]

    def _record(self, action: Callable[[Measurement], None]) -> None:
        """Run an action of the measurement that hooks record, if there is one."""
        name = self._hooked
        if name in self._measurements:
            with self._failures.guard("record a batch", partial(self._drop, name)):
                action(self._measurements[name])

    def _is_recorded_everywhere(self, name: str) -> bool:
        """Check on all ranks whether any rank dropped the set; if so, it is dropped here too."""
        if all(self._processes.all_gather(name in self._measurements)):
            return True
        if name in self._measurements:
            self._failures.report_once("another rank aborted the measurement: see its log")
        return False

    def _drop(self, name: str) -> None:
        measurement = self._measurements.pop(name, None)
        if measurement is not None:
            measurement.cancel()
            self._seconds += measurement.seconds
