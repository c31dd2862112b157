"""One measurement of a callback: all sample sets are recorded, then estimated layer by layer."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from lightning_id.callback.comparisons import Comparisons
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.keys import metrics_of
from lightning_id.callback.probe import pass_batches, probe_loader
from lightning_id.callback.records import add_results
from lightning_id.callback.sets import VAL, SampleSet, sets_of_stage
from lightning_id.callback.settings import CallbackSettings
from lightning_id.callback.trainers import (
    AnyModule,
    AnyTrainer,
    is_compiled,
    logger_step,
    measured_loader,
    stage_of,
)
from lightning_id.functional.registry import Estimator
from lightning_id.history import BEFORE_TRAINING, FIT, History, Validation
from lightning_id.recording.kept import LayerEstimates
from lightning_id.recording.layers import LAST_HIDDEN
from lightning_id.recording.measurement import Measurement
from lightning_id.recording.passes import ChosenBatches
from lightning_id.recording.plan import Plan
from lightning_id.recording.processes import DistributedProcesses, Processes, SingleProcess
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


@dataclass
class Carried:
    """Plans and estimates that a measurement takes over from the one before."""

    plans: dict[str, Plan] = field(default_factory=dict)  # of the layers, by sample set
    kept: dict[str, dict[str, LayerEstimates]] = field(default_factory=dict)  # by set and layer
    comparisons: Comparisons = field(default_factory=Comparisons)
    _made_for: tuple[int, tuple[str, ...]] | None = None  # model and layers

    def renew(self, module: AnyModule, names: Iterable[str]) -> None:
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
        trainer: AnyTrainer,
        module: AnyModule,
        settings: CallbackSettings,
        moment: Moment,
        carried: Carried,
        failures: FailurePolicy,
    ) -> None:
        self.moment = moment
        self.surroundings = ExitStack()
        self.results: dict[SampleSet, list[LayerResult]] = {}
        self.nbytes: dict[str, Mapping[str, int]] = {}  # of the rows, by set
        self._trainer = trainer
        self._module = module
        self._settings = settings
        self._names, self._last_hidden = settings.select(module)
        self._carried = carried
        carried.renew(module, self._names)
        self.is_first = False  # whether the plans were made by this measurement
        self._failures = failures
        several = trainer.world_size > 1
        self._processes: Processes = DistributedProcesses() if several else SingleProcess()
        self._options = settings.options_of(module, self._processes)
        self._measurements: dict[str, Measurement] = {}
        self._seconds = 0.0  # of measurements that were dropped or are done
        self._hooked = ""  # the set that hooks record
        self._sets = sets_of_stage(settings.sets, stage_of(trainer))
        self._pending = list(self._sets)  # to be passed through the model
        for each in self._sets:
            if moment.in_validation and each.loader == VAL:
                self._pending.remove(each)
                self._hook(each)
        if any(is_compiled(each) for each in module.modules()):
            # A compiled graph never runs hooks added later: run eagerly during the measurement.
            self.surroundings.enter_context(torch.compiler.set_stance("force_eager"))

    def pass_probes(self) -> None:
        """Pass the sets that no hook records through the model; later calls do nothing."""
        while self._pending:
            self._pass_probe(self._pending.pop(0))

    def begin_batch(self, batch: Any, dataloader_idx: int) -> None:
        """Add the hooks for a batch of the running loader that holds a chosen sample."""
        self._record(dataloader_idx, lambda measurement: measurement.begin_batch(batch))

    def end_batch(self, dataloader_idx: int) -> None:
        """Remove the hooks."""
        self._record(dataloader_idx, Measurement.end_batch)

    def estimate(self, estimators: Mapping[str, Estimator], history: History) -> None:
        """Estimate set after set, free the rows, and add the records to the history."""
        self.pass_probes()
        plans = self._carried.plans
        is_first = not plans
        try:
            for each in self._sets:
                if self._is_recorded_everywhere(each.name):
                    self._estimate_set(each, estimators, history)
                self._drop(each.name)
        finally:
            for results in self.results.values():
                self._failures.report_layers(results)
        self.is_first = is_first and bool(plans)
        if self.is_first and "twonn" in estimators:
            reason = next(iter(plans.values())).reasons.get(LAST_HIDDEN)
            if reason is not None:
                self._failures.report_once(
                    f"no id/last_hidden: {reason}; last_hidden=... names a layer to take"
                )

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

    def _hook(self, each: SampleSet) -> None:
        with self._failures.guard("prepare a measurement", lambda: self._drop(each.name)):
            loader, n_batches = measured_loader(self._trainer, self._settings.dataloader_idx)
            n_samples, seed = self._settings.n_samples, self._settings.seed
            self._new(each.name, samples_of(loader, n_batches, n_samples, seed))
            self._hooked = each.name

    def _pass_probe(self, each: SampleSet) -> None:
        settings, trainer = self._settings, self._trainer
        with self._failures.guard("measure the probe", lambda: self._drop(each.name)):
            loader = each.loader
            if isinstance(loader, str):
                loader = probe_loader(trainer, loader, settings.dataloader_idx)
            chosen = ChosenBatches(
                loader, settings.n_samples, settings.seed, trainer.global_rank, trainer.world_size
            )
            measurement = self._new(each.name, chosen.samples)
            pass_batches(trainer, self._module, chosen.batches, measurement)

    def _new(self, name: str, samples: FixedSamples | ReservoirSamples) -> Measurement:
        self._measurements[name] = Measurement(
            self._module,
            self._names,
            samples,
            self._options,
            self._carried.plans.get(name),
            self._processes,
            self._last_hidden,
            self._carried.kept.setdefault(name, {}),
        )
        return self._measurements[name]

    def _record(self, dataloader_idx: int, action: Callable[[Measurement], None]) -> None:
        """Run an action of the measurement of the batches of this loader, if there is one."""
        name = self._hooked
        if name in self._measurements and dataloader_idx == self._settings.dataloader_idx:
            with self._failures.guard("record a batch", lambda: self._drop(name)):
                action(self._measurements[name])

    def _is_recorded_everywhere(self, name: str) -> bool:
        """Check on all ranks whether any rank dropped the set; if so, it is dropped here too."""
        if all(self._processes.all_gather(name in self._measurements)):
            return True
        if name in self._measurements:
            self._failures.report_once("another rank aborted the measurement: see its log")
        return False

    def _estimate_set(
        self, each: SampleSet, estimators: Mapping[str, Estimator], history: History
    ) -> None:
        measurement = self._measurements[each.name]
        # Spectra of the first measurement and of the last of each stage are kept: of a fit the last
        # is known at its end.
        stage = self.moment.validation.stage
        in_fit = stage == FIT
        needs_spectra = not (in_fit and history.spectra_by_set.get(each.name))
        add_results(
            measurement.results(estimators, needs_spectra),
            self.results.setdefault(each, []),
            history,
            self.moment.validation,
            each.name,
            self._options.rule.reduce,
            self._carried.comparisons if stage in (BEFORE_TRAINING, FIT) else None,
            self._failures,
        )
        self.nbytes[each.name] = measurement.nbytes
        if measurement.plan is not None:
            self._carried.plans[each.name] = measurement.plan

    def _drop(self, name: str) -> None:
        measurement = self._measurements.pop(name, None)
        if measurement is not None:
            measurement.cancel()
            self._seconds += measurement.seconds
