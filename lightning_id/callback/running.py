"""One measurement of a callback: every sample set recorded, then estimated layer by layer."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.probe import Probe, probe_loader
from lightning_id.callback.sets import VAL, SampleSet, sets_of_stage
from lightning_id.callback.trainers import (
    AnyModule,
    AnyTrainer,
    is_compiled,
    measured_loader,
    stage_of,
)
from lightning_id.functional.registry import Estimator
from lightning_id.history import BEFORE_TRAINING, Validation
from lightning_id.recording.measurement import LayerResult, Measurement, Options, Plan
from lightning_id.recording.memory import free_memory
from lightning_id.recording.processes import DistributedProcesses, Processes, SingleProcess
from lightning_id.recording.samples import FixedSamples, ReservoirSamples, samples_of


@dataclass(frozen=True)
class Moment:
    """When a measurement is made.

    Attributes:
        validation: Stage, epoch and step of its records.
        in_validation: Whether a validation or test runs, which logs metrics of its own.
    """

    validation: Validation
    in_validation: bool

    @property
    def logs_directly(self) -> bool:
        """Whether the loggers are called without Lightning.

        Lightning drops metrics logged in a sanity check, and most of those logged between
        validations.
        """
        return not self.in_validation or self.validation[0] == BEFORE_TRAINING


@dataclass(frozen=True)
class Settings:
    """What every measurement of a callback has in common; see its arguments.

    Attributes:
        may_project: Whether layers that exceed a limit of free memory are projected.
    """

    may_project: bool
    sets: list[SampleSet]
    n_samples: int
    seed: int | None
    dataloader_idx: int
    options: Options


class RunningMeasurement:
    """Records and estimates the sample sets of one measurement.

    Hooks record the set that a running validation or test iterates over. A `Probe` passes every
    other set through the model.

    Args:
        trainer: The Trainer.
        module: The model whose layers are measured.
        names: Modules and pseudo-layers, and the names they are shown under.
        last_hidden: The layer whose output is the last hidden one; None for the input of the last
            Linear.
        settings: Sets, samples and options.
        moment: When it is made.
        plans: Order and depth of the layers by set, from earlier measurements; filled here.
        failures: Handles exceptions: a set that fails is dropped, the others are measured.
    """

    def __init__(
        self,
        trainer: AnyTrainer,
        module: AnyModule,
        names: Mapping[str, str],
        last_hidden: str | None,
        settings: Settings,
        moment: Moment,
        plans: dict[str, Plan],
        failures: FailurePolicy,
    ) -> None:
        self.moment = moment
        self.sets = sets_of_stage(settings.sets, stage_of(trainer))
        self.surroundings = ExitStack()
        self._trainer = trainer
        self._module = module
        self._names = names
        self._last_hidden = last_hidden
        self._settings = settings
        self._plans = plans
        self._failures = failures
        several = trainer.world_size > 1
        self._processes: Processes = DistributedProcesses() if several else SingleProcess()
        self._options = settings.options
        if settings.options.is_limit_free:
            free = free_memory(module.device, self._processes)
            self._options = replace(settings.options, limits=free, may_project=settings.may_project)
        self.nbytes: dict[str, Mapping[str, int]] = {}  # of the rows, by set
        self._measurements: dict[str, Measurement] = {}
        self._seconds = 0.0  # of measurements that were dropped or are done
        self._hooked: str | None = None  # the set that hooks record
        self._pending: list[SampleSet] = []  # sets to be passed through the model
        for each in self.sets:
            if moment.in_validation and each.loader == VAL:
                self._hook(each)
            else:
                self._pending.append(each)
        if any(is_compiled(each) for each in module.modules()):
            # A compiled graph never runs a hook that was added later: run eagerly for a while.
            self.surroundings.enter_context(torch.compiler.set_stance("force_eager"))

    def pass_probes(self) -> None:
        """Pass the sets that no hook records through the model; later calls do nothing."""
        while self._pending:
            self._pass_probe(self._pending.pop(0))

    def begin_batch(self, batch: Any, dataloader_idx: int) -> None:
        """Add the hooks for a batch of the running loader that holds a chosen sample."""
        measurement = self._recording(dataloader_idx)
        if measurement is not None:
            with self._failures.guard("record a batch", self._drop_hooked):
                measurement.begin_batch(batch)

    def end_batch(self, dataloader_idx: int) -> None:
        """Remove the hooks."""
        measurement = self._recording(dataloader_idx)
        if measurement is not None:
            with self._failures.guard("record a batch", self._drop_hooked):
                measurement.end_batch()

    def results(
        self, estimators: Mapping[str, Estimator]
    ) -> Iterator[tuple[SampleSet, LayerResult]]:
        """Estimate set after set and layer after layer; rows are freed as soon as they are used.

        Yields:
            The set and the result of a layer, identical on all ranks.
        """
        self.pass_probes()
        for each in self.sets:
            if not self._is_recorded_everywhere(each.name):
                self._drop(each.name)
                continue
            measurement = self._measurements[each.name]
            for result in measurement.results(estimators):
                yield each, result
            self.nbytes[each.name] = measurement.nbytes
            if measurement.plan is not None:
                self._plans[each.name] = measurement.plan
            self._drop(each.name)

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
            self._new(
                each.name,
                samples_of(loader, n_batches, self._settings.n_samples, self._settings.seed),
            )
            self._hooked = each.name

    def _pass_probe(self, each: SampleSet) -> None:
        settings, trainer = self._settings, self._trainer
        with self._failures.guard("measure the probe", lambda: self._drop(each.name)):
            loader = each.loader
            if isinstance(loader, str):
                loader = probe_loader(trainer, loader, settings.dataloader_idx)
            probe = Probe(
                loader, settings.n_samples, settings.seed, trainer.global_rank, trainer.world_size
            )
            measurement = self._new(each.name, probe.samples)
            probe.run(trainer, self._module, measurement.begin_batch, measurement.end_batch)

    def _new(self, name: str, samples: FixedSamples | ReservoirSamples) -> Measurement:
        plan = self._plans.get(name)
        self._measurements[name] = Measurement(
            self._module,
            self._names,
            samples,
            self._options,
            plan,
            self._processes,
            self._last_hidden,
        )
        return self._measurements[name]

    def _recording(self, dataloader_idx: int) -> Measurement | None:
        """Return the measurement of the batches of this loader, if there is one."""
        if self._hooked is None or dataloader_idx != self._settings.dataloader_idx:
            return None
        return self._measurements.get(self._hooked)

    def _is_recorded_everywhere(self, name: str) -> bool:
        """Check on all ranks whether any rank dropped the set; if so, it is dropped here too."""
        if all(self._processes.all_gather(name in self._measurements)):
            return True
        if name in self._measurements:
            self._failures.report_once("another process gave a measurement up; its log says why")
        return False

    def _drop_hooked(self) -> None:
        if self._hooked is not None:
            self._drop(self._hooked)

    def _drop(self, name: str) -> None:
        measurement = self._measurements.pop(name, None)
        if measurement is not None:
            measurement.cancel()
            self._seconds += measurement.seconds
