"""The Lightning callback: schedules measurements and hands their results to history and loggers."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from pytorch_lightning import Callback
from torch.utils.data import Dataset

from lightning_id.budget import Budget
from lightning_id.charts import Charts
from lightning_id.checks import positive, whole_number
from lightning_id.functional import get_estimator
from lightning_id.functional.geometry import MIN_DISTINCT
from lightning_id.history import BEFORE_TRAINING, FIT, History, Validation, folder_of
from lightning_id.layers import (
    INPUT,
    LAST_HIDDEN,
    is_automatic,
    is_named,
    select_layer,
    select_layers,
)
from lightning_id.logged import LoggedMetrics
from lightning_id.loggers import key_names
from lightning_id.measurement import LayerResult, Measurement, Options, Plan
from lightning_id.memory import free_memory
from lightning_id.messages import kind_of, on_layers
from lightning_id.preflight import check_loader, check_names, check_prefixes, surprises
from lightning_id.probe import Probe, probe_loader
from lightning_id.processes import Alone, Together
from lightning_id.rows import Reduce, RowRule, RowsPerSample
from lightning_id.samples import FixedSamples, ReservoirSamples, samples_of
from lightning_id.schedule import EveryNValidations, Schedule
from lightning_id.storage import Limits
from lightning_id.summary import log_keys, plan_table
from lightning_id.terminal import Terminal, epoch_name, show_where
from lightning_id.trainers import (
    AnyModule,
    AnyTrainer,
    is_compiled,
    is_fast_dev_run,
    is_untrained,
    logger_step,
    measured_loader,
    stage_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SMALLEST_CLASS = 100  # samples: below, the error bar of one class is above 10 %
MANY_KEYS = 200  # that one hosted tracker takes in a request


@dataclass
class _Pass:
    """A measurement and what its records say of where it was made.

    Attributes:
        measurement: It.
        data: The set that is measured: ``"val"``, ``"test"``, ``"train"`` or ``"probe"``.
        probe: Its samples, if they are not those of the validation or test that runs.
        stage: See `History`.
        step: See `History`.
        is_of_validation: Whether a validation or test runs, which logs metrics of its own.
        is_recorded: Whether the probe has passed.
    """

    measurement: Measurement
    data: str
    probe: Probe | None
    stage: str
    step: int
    is_of_validation: bool
    is_recorded: bool = False

    @property
    def logs_directly(self) -> bool:
        """Whether its numbers go to the loggers past Lightning.

        Lightning drops what is logged in a sanity check, and most of what is logged between
        validations.
        """
        return not self.is_of_validation or self.stage == BEFORE_TRAINING


class IntrinsicDimensionHooks:
    """Measure the intrinsic dimension of every layer at validation, next to the accuracy.

    Logs ``id_<estimator>/<layer>`` and its standard error ``id_<estimator>_se/<layer>``, and of
    TwoNN the summary ``id/last_hidden``, ``id/peak``, ``id/peak_depth`` and ``id/peak_over_last``.
    All records are in `history`, in the checkpoint, and, if there is a logger, in ``history.csv``
    in the folder of the run. What cannot be estimated is not logged: the history says why. The
    training is the same to the last bit with and without the callback.

    With ``Trainer(num_sanity_val_steps=-1)`` the sanity check is a whole validation and becomes the
    record of the network before training.

    Args:
        layers: ``"auto"`` (the layers that the source work measured, at most 16), a name, a list of
            names, or names and the aliases under which they are shown. Names may be exact, globs,
            ``"re:..."``, ``"!..."`` to exclude, or ``"input"``, the first tensor that the module
            called first is given. The input of the last Linear on the way to the output is always
            measured, as ``"last_hidden"`` unless it is the output of a layer that is measured
            anyway.
        estimators: ``"twonn"``, ``"twonn_gaussian"`` (of Gaussian rows of the same covariance),
            ``"pca"`` (components for 90 % of the variance), ``"pca_standardized"``, ``"gride"``,
            ``"mle"``, ``"participation_ratio"``, ``"effective_rank"``, or one that was registered.
        n_samples: Samples to measure, the same ones at every validation. The numbers depend on it:
            compare only runs with the same.
        seed: Seed of their uniform choice, by a private generator; None takes the first ones.
        schedule: When to measure: `EveryNValidations`, or `AtSteps` and `LogSpaced` between
            training steps; None for every validation.
        reduce: How tokens or maps become one row per sample: ``"flatten"``, ``"mean"``, ``"max"``,
            ``"cls"``, ``"last"`` or ``"per-position"`` (one token of each sample, drawn once). The
            numbers depend on it.
        sample_dim: The axis along which the samples lie, for all layers or by name; of ``"input"``
            it is that of the batch. None for the first, but the second where the modules of PyTorch
            state ``batch_first=False``.
        rows_per_sample: For all layers or by name, where a layer gives other rows than one for each
            sample: a number of rows one after another, ``"first"`` for the first rows (views that
            are concatenated), ``"all"`` for every row as a sample of its own (nodes of graphs).
        mask_key: Where in a batch the padding mask is (1 for tokens that count), for example
            ``"attention_mask"``; padding is left out of the rows.
        per_class: Measure also the samples of each class that has at least so many, 100 if True,
            and log mean and deviation over the classes, ``id_<estimator>_per_class/<layer>`` and
            ``id_<estimator>_per_class_sd/<layer>``. The labels are the first tensor of a batch with
            one whole number per sample.
        probe: A loader of another set to measure in place of the validation samples during a fit,
            for example an unaugmented part of the training set; ``"train"`` and ``"val"`` are the
            fit's own loaders. A pass of its own, in eval mode: ``predict_step`` if you wrote one,
            else the forward of the first element of the batch, or of the items of a mapping.
        dataloader_idx: Which validation loader is measured, if there are several.
        max_features: Project rows of more features to so many at random, an approximation that the
            record names; squared distances are off by about sqrt(2 / max_features). None for never.
        memory_limit: GiB of rows kept on the device, and again in host memory; the rest goes to a
            temporary file. Rows are estimated where they are kept. ``"auto"`` is a quarter of the
            free memory of each when the measurement begins. Of layers that were picked by
            ``layers="auto"`` and do not fit, the largest are then projected at random to 4096
            features, from the first measurement on, with a warning and a note in the record, and
            no file is written for them. None keeps all on the device.
        max_overhead: The largest share of the time since the start of the fit that measuring may
            take, for example 0.02; a validation that would exceed it is not measured, and the first
            time is said. None for no limit.
        on_error: What a failure of the callback does: ``"warn"`` (the training goes on),
            ``"raise"`` or ``"ignore"``. A layer name that does not exist always raises, at the
            start.
        last_hidden: The layer whose output is the last hidden representation, for a network that
            does not end in a Linear, or not in the one you mean; None for the input of the last
            Linear.
        prefix: Put before every logged key, to tell two instances apart; ``history.csv`` is in the
            folder of that name below that of the run.
        charts: Whether to draw the depth profile and the heat map into every logger, in at most one
            percent of the time and at the end, and to lay out a page of TensorBoard's custom
            scalars.

    Attributes:
        history: The `History` of all measurements.
        last_metrics: What the last measurement logged, by key.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from lightning_id import IntrinsicDimensionCallback
        >>> callback = IntrinsicDimensionCallback(layers=["input", "fc*"], n_samples=1000)
        >>> callback.history.records
        []
    """

    # A mixin of all hooks, because `pytorch_lightning` and `lightning.pytorch` are two class trees:
    # see the classes at the end of this file and in `lightning_id.lightning`.

    def __init__(
        self,
        layers: str | list[str] | dict[str, str] = "auto",
        estimators: Sequence[str] = ("twonn", "pca"),
        n_samples: int = 2000,
        seed: int | None = 0,
        schedule: Schedule | None = None,
        reduce: Reduce = "flatten",
        sample_dim: int | Mapping[str, int] | None = None,
        rows_per_sample: RowsPerSample = 1,
        mask_key: str | int | None = None,
        per_class: bool | int = False,
        probe: Iterable[Any] | Literal["train", "val"] | None = None,
        dataloader_idx: int = 0,
        max_features: int | None = None,
        memory_limit: int | float | Literal["auto"] | None = "auto",
        max_overhead: float | None = None,
        on_error: Literal["warn", "raise", "ignore"] = "warn",
        last_hidden: str | None = None,
        prefix: str = "",
        charts: bool = True,
    ) -> None:
        if isinstance(estimators, str):
            raise ValueError(f"`estimators`: expected a list of names, got {estimators!r}")
        if schedule is not None and not isinstance(schedule, Schedule):
            raise ValueError(f"`schedule`: expected a Schedule or None, got {schedule!r}")
        if not isinstance(prefix, str):
            raise ValueError(f"`prefix`: expected a string, got {prefix!r}")
        if on_error not in ("warn", "raise", "ignore"):
            raise ValueError(f"`on_error`: expected 'warn', 'raise' or 'ignore', got {on_error!r}")
        if isinstance(probe, str | Dataset) and probe not in ("train", "val"):
            raise ValueError(
                f"`probe`: expected a DataLoader, 'train' or 'val', got {probe!r}; DataLoader(...)"
                " makes one of a data set"
            )
        self.layers = layers
        self.last_hidden = last_hidden
        self.estimators = {name: get_estimator(name) for name in estimators}
        self.n_samples = whole_number("n_samples", n_samples, least=1)
        self.seed = None if seed is None else whole_number("seed", seed, least=0)
        self.schedule = schedule or EveryNValidations()
        self.options = Options(
            rule=RowRule(
                reduce, sample_dim, max_features, 0 if seed is None else seed, rows_per_sample
            ),
            mask_key=mask_key,
            smallest_class=_smallest_class(per_class),
            limits=_limits(memory_limit),
            is_limit_free=memory_limit == "auto",
            is_input_named=is_named(INPUT, layers),
        )
        self.probe = probe
        self.dataloader_idx = whole_number("dataloader_idx", dataloader_idx, least=0)
        self.on_error = on_error
        self.prefix = prefix
        self.history = History()
        self.last_metrics: dict[str, float] = {}
        self._validations = 0  # run so far, sanity checks not counted
        self._logged = LoggedMetrics()
        self._written = 0, 0  # records and metrics in the files of this run
        self._plan: Plan | None = None
        self._planned_for: tuple[int, tuple[str, ...]] | None = None
        self._pass: _Pass | None = None  # the measurement that is being made
        self._due = False  # whether one is made now, alike in all processes
        self._last_step = 0  # the last one that was asked of the schedule
        self._processes = Alone()
        self._budget = Budget(max_overhead)
        self._surroundings = ExitStack()
        self._terminal = Terminal(prefix)
        self._folder: Path | None = None  # where this run's history is
        self._table_is_due = False  # of a validation or test by itself, when its bar is finished
        self._charts = Charts(prefix) if charts else None
        self._warned: set[tuple[str | None, str]] = set()

    # --- what Lightning calls --------------------------------------------------------------------

    def on_fit_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Resolve the layers, so that a wrong name fails before anything is trained."""
        self._written, self._folder = (0, 0), None
        self._logged = LoggedMetrics()
        self._budget.start()
        self._last_step = trainer.global_step
        if not trainer.barebones:
            ours = [c for c in trainer.callbacks if isinstance(c, IntrinsicDimensionHooks)]
            check_prefixes(self.prefix, [callback.prefix for callback in ours])
            names, _ = self._select(pl_module)
            check_names("sample_dim", self.options.rule.sample_dim, names.values())
            check_names("rows_per_sample", self.options.rule.rows_per_sample, names.values())
            for text in surprises(trainer, self.schedule, self.prefix, self._budget.share):
                self._warn_once(text)

    def on_train_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Measure before the first step, if the schedule has step 0 and no sanity check did it."""
        if not trainer.barebones and (self.probe is None or self.probe == "val"):
            check_loader(trainer, self.dataloader_idx)
        records = self.history.records
        is_measured = bool(records) and records[-1]["stage"] == BEFORE_TRAINING
        if trainer.global_step == 0 and not is_measured:
            self._measure_between_steps(trainer, pl_module)

    def on_train_epoch_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Record the metrics of the epoch before, which are final now."""
        self._keep_metrics_of_epoch(trainer)
        self._logged.begin_epoch(trainer)

    def on_train_batch_end(
        self, trainer: AnyTrainer, pl_module: AnyModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure after a step, if the schedule has it."""
        if trainer.global_step != self._last_step:  # not while gradients accumulate
            self._last_step = trainer.global_step
            self._measure_between_steps(trainer, pl_module)

    def on_train_epoch_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Note the epoch: the hook of the module, which comes next, may log metrics of it."""
        self._logged.end_epoch(trainer)

    def on_validation_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Prepare a measurement, if this validation or test is measured."""
        self._start(trainer, pl_module)

    def on_validation_batch_start(
        self,
        trainer: AnyTrainer,
        pl_module: AnyModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Put the hooks on for a batch that holds a chosen sample."""
        # Only now, whatever the order of the callbacks, are averaged weights in their place. All
        # probes pass before the hooks of any instance are on: they would record the wrong samples.
        for callback in trainer.callbacks:
            if isinstance(callback, IntrinsicDimensionHooks):
                callback._pass_probe(trainer, pl_module)
        self._begin_batch(batch, dataloader_idx)

    def on_validation_batch_end(
        self,
        trainer: AnyTrainer,
        pl_module: AnyModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the hooks off."""
        self._end_batch(dataloader_idx)

    def on_validation_epoch_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Estimate the layers and log the numbers in one call, next to the accuracy."""
        self._finish(trainer, pl_module)

    def on_validation_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Write the history, and what was measured before training to the loggers; say it."""
        if self._pass is None and stage_of(trainer) == "fit" and not trainer.sanity_checking:
            self._keep_metrics_alone(trainer)
        self._end(trainer)
        if not trainer.sanity_checking:
            self._validations += 1

    on_test_start = on_validation_start
    on_test_batch_start = on_validation_batch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def on_test_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Write the history."""
        self._end(trainer)

    def on_train_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Record the metrics of the last epoch, and draw the last figures."""
        self._keep_metrics_of_epoch(trainer)
        with self._guard("draw the figures"):
            self._draw(trainer, is_last=True)

    def on_fit_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Print the table of all layers below the bar, and where the history is."""
        with self._guard("print the table"):
            self._terminal.at_end(trainer, self.history)
            if self._folder is not None:
                show_where(trainer, self._folder)

    def on_exception(
        self, trainer: AnyTrainer, pl_module: AnyModule, exception: BaseException
    ) -> None:
        """Take the hooks off: Lightning does not call `teardown` then."""
        if trainer.world_size == 1:  # else the other ranks may not be here to reduce metrics with
            self._keep_metrics_of_epoch(trainer)
        self._release()
        self._terminal.release()

    def teardown(self, trainer: AnyTrainer, pl_module: AnyModule, stage: str) -> None:
        """Take the hooks off; print the table of a validation or test below its bar."""
        self._release()
        with self._guard("print the table"):
            if self._table_is_due:
                self._table_is_due = False
                self._terminal.at_end(trainer, self.history)
        self._terminal.release()

    def plot(self, kind: str = "depth_profile", **options: str) -> "Figure":
        """Draw what was measured so far: see `History.plot`."""
        return self.history.plot(kind, **options)

    @property
    def state_key(self) -> str:
        """Tell two instances apart in a checkpoint."""
        return f"{type(self).__qualname__}{ {'prefix': self.prefix, 'layers': self.layers}!r}"

    def state_dict(self) -> dict[str, Any]:
        """Return the history in plain types, which ``torch.load(weights_only=True)`` reads."""
        return {
            "records": self.history.records,
            "metrics": self.history.metrics,
            "spectra": {tuple(place): held for place, held in self.history.spectra.items()},
            "validations": self._validations,
        }

    def on_save_checkpoint(
        self, trainer: AnyTrainer, pl_module: AnyModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the metrics of an epoch that has just ended too: they are recorded only later."""
        with self._guard("save the history"):
            if self._append_metrics_of_epoch(trainer):
                checkpoint["callbacks"][self.state_key] = self.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history of a checkpoint."""
        self.history = History(list(state_dict["records"]), list(state_dict["metrics"]))
        spectra = state_dict.get("spectra", {})
        self.history.spectra = {Validation(*place): held for place, held in spectra.items()}
        self._validations = state_dict["validations"]

    # --- what they do ----------------------------------------------------------------------------

    def _measure_between_steps(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        if trainer.barebones or not self.schedule.at_step(trainer.global_step):
            return
        self._due = self._is_affordable(trainer)
        if self._due:
            self._prepare(trainer, pl_module, self.probe or "val", between_steps=True)
            self._pass_probe(trainer, pl_module)
            self._finish(trainer, pl_module)
            self._end(trainer)

    def _start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        self._release()
        self._due = self._is_due(trainer)
        if self._due:
            probe = self.probe if stage_of(trainer) == "fit" else None
            self._prepare(trainer, pl_module, probe)

    def _is_due(self, trainer: AnyTrainer) -> bool:
        if trainer.barebones:
            return False
        if trainer.sanity_checking:
            # Two batches say nothing; a whole validation of fresh weights is the untrained network.
            whole = trainer.num_sanity_val_batches == trainer.num_val_batches
            return bool(whole and trainer.global_step == 0)
        if stage_of(trainer) != "fit":
            return True
        return self.schedule.at_validation(self._validations) and self._is_affordable(trainer)

    def _is_affordable(self, trainer: AnyTrainer) -> bool:
        is_affordable = self._budget.allows(trainer.strategy.broadcast)
        if not is_affordable:
            spent, elapsed = self._budget.spent, self._budget.elapsed
            self._warn_once(
                f"not every measurement is made: {spent:.1f} s of {elapsed:.1f} s went into"
                f" measuring, more than max_overhead={self._budget.share:g}",
                what="budget",
            )
        return is_affordable

    def _prepare(
        self,
        trainer: AnyTrainer,
        pl_module: AnyModule,
        probe: Iterable[Any] | str | None,
        between_steps: bool = False,
    ) -> None:
        self._processes = Together() if trainer.world_size > 1 else Alone()
        names, last_hidden = self._select(pl_module)  # a wrong name raises, whatever `on_error`
        signature = (id(pl_module), tuple(names))
        if self._planned_for != signature:
            self._plan, self._planned_for = None, signature
        options = self.options
        if options.is_limit_free:
            free = free_memory(pl_module.device, self._processes)
            options = replace(options, limits=free, may_project=is_automatic(self.layers))
        with self._guard("prepare a measurement"):
            source = self._probe_of(trainer, probe)
            samples = self._samples_of(trainer) if source is None else source.samples
            self._pass = _Pass(
                Measurement(
                    pl_module,
                    names,
                    samples,
                    options,
                    self._plan,
                    self._processes,
                    last_hidden,
                ),
                data=_data_of(trainer, probe),
                probe=source,
                stage=BEFORE_TRAINING
                if is_untrained(trainer, between_steps)
                else stage_of(trainer),
                step=trainer.global_step if between_steps else logger_step(trainer),
                is_of_validation=not between_steps,
            )
            if any(is_compiled(module) for module in pl_module.modules()):
                # A compiled graph never sees a hook that came after it: do without it for a while.
                self._surroundings.enter_context(torch.compiler.set_stance("force_eager"))

    def _select(self, pl_module: AnyModule) -> tuple[dict[str, str], str | None]:
        """Return the layers with the names they are shown under, and the last hidden one."""
        names = select_layers(pl_module, self.layers)
        if self.last_hidden is None:
            return names, None
        last = select_layer(pl_module, "last_hidden", self.last_hidden)
        names.pop(LAST_HIDDEN, None)
        return names, names.setdefault(last, last)

    def _samples_of(self, trainer: AnyTrainer) -> FixedSamples | ReservoirSamples:
        """Choose among the samples of the validation or test that runs."""
        loader, n_batches = measured_loader(trainer, self.dataloader_idx)
        return samples_of(loader, n_batches, self.n_samples, self.seed)

    def _probe_of(self, trainer: AnyTrainer, probe: Iterable[Any] | str | None) -> Probe | None:
        """Choose among the samples of another loader, if there is one."""
        if probe is None:
            return None
        if isinstance(probe, str):
            probe = probe_loader(trainer, probe, self.dataloader_idx)
        return Probe(probe, self.n_samples, self.seed, trainer.global_rank, trainer.world_size)

    def _pass_probe(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        if self._pass is not None and self._pass.probe is not None and not self._pass.is_recorded:
            with self._guard("measure the probe"):
                measurement = self._pass.measurement
                self._pass.is_recorded = True
                self._pass.probe.run(
                    trainer, pl_module, measurement.begin_batch, measurement.end_batch
                )

    def _begin_batch(self, batch: Any, dataloader_idx: int) -> None:
        measurement = self._recording(dataloader_idx)
        if measurement is not None:
            with self._guard("record a batch"):
                measurement.begin_batch(batch)

    def _end_batch(self, dataloader_idx: int) -> None:
        measurement = self._recording(dataloader_idx)
        if measurement is not None:
            with self._guard("record a batch"):
                measurement.end_batch()

    def _recording(self, dataloader_idx: int) -> Measurement | None:
        """Return the measurement that this loader's batches belong to, if there is one."""
        if self._pass is None or self._pass.probe is not None:
            return None
        return self._pass.measurement if dataloader_idx == self.dataloader_idx else None

    def _finish(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        if not self._due or not self._is_prepared_everywhere() or self._pass is None:
            return
        with self._guard("estimate the layers"):
            self.last_metrics = self._estimate(trainer, self._pass)
            if not self._pass.logs_directly:
                # Alike in all processes: Lightning's advice to average them would cost four
                # collectives a key. It comes when the logged is computed, before `_end`.
                self._surroundings.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
                pl_module.log_dict(self.last_metrics, batch_size=1, add_dataloader_idx=False)

    def _is_prepared_everywhere(self) -> bool:
        """Hear whether a process gave this measurement up: then none may wait for it."""
        if all(self._processes.gather(self._pass is not None)):
            return True
        if self._pass is not None:
            self._release()
            self._warn_once("another process gave a measurement up; its log says why")
        return False

    def _end(self, trainer: AnyTrainer) -> None:
        now = self._pass
        if now is not None:
            with self._guard("write the history"):
                if now.is_of_validation:
                    place = Validation(now.stage, trainer.current_epoch, now.step)
                    self._record_metrics(trainer, place)
                self._write(trainer, now)
                self._say(trainer, now)
                self._draw(trainer, is_last=now.stage in ("validate", "test"))
            self._budget.spend(now.measurement.seconds)
        self._release()

    def _estimate(self, trainer: AnyTrainer, now: "_Pass") -> dict[str, float]:
        results: list[LayerResult] = []
        try:
            for result in now.measurement.results(self.estimators):
                results.append(result)
                self._record(trainer, now, result)
        finally:
            self._warn_of_layers(results)
        spectra = {r.layer: r.spectrum for r in results if r.spectrum is not None}
        if spectra:
            self.history.keep_spectra((now.stage, trainer.current_epoch, now.step), spectra)
        keys = log_keys(results, self.prefix)
        if self._plan is None and now.measurement.plan is not None:
            self._plan = now.measurement.plan
            plan = plan_table(results, now.data, now.measurement.nbytes)
            self._terminal.show_plan(trainer, plan)
            reason = self._plan.reasons.get(LAST_HIDDEN)
            if reason is not None and "twonn" in self.estimators:
                self._warn_once(
                    f"no id/last_hidden: {reason}; last_hidden=... names a layer to take"
                )
            if self._charts is not None and trainer.is_global_zero:
                layers = list(key_names([result.layer for result in results]).values())
                theirs = [key for key in trainer.callback_metrics if key.startswith("val")]
                self._charts.lay_out(trainer.loggers, layers, list(self.estimators), theirs)
            if len(keys) > MANY_KEYS:
                self._warn_once(
                    f"{len(keys)} numbers are logged at every measurement; some trackers take at"
                    f" most {MANY_KEYS} in a request: choose fewer layers or estimators",
                )
        return keys

    def _record(self, trainer: AnyTrainer, now: "_Pass", result: LayerResult) -> None:
        common = {
            "stage": now.stage,
            "epoch": trainer.current_epoch,
            "step": now.step,
            "data": now.data,
            "reduce": self.options.rule.reduce,
        }
        for fields in result.records():
            self.history.append(**common, **fields)
        for text in result.batch_notes:
            self._warn_once(text)
        if self.on_error == "raise" and result.errors:
            name, error = next(iter(result.errors.items()))
            raise RuntimeError(f"{name} of layer {result.layer!r} failed: {error!r}") from error

    def _warn_of_layers(self, results: Sequence[LayerResult]) -> None:
        """Warn of layers without a number and of notes: once for each cause, whatever its numbers.

        What failed here is known here alone: the others are told to look at this log.
        """
        causes: dict[tuple[str, bool], list[tuple[str, str]]] = {}
        for result in results:
            for text in result.remarks():
                cause = kind_of(text, result.layer), bool(result.errors)
                if (result.layer, cause[0]) not in self._warned:
                    self._warned.add((result.layer, cause[0]))
                    causes.setdefault(cause, []).append((result.layer, text))
        for (_, failed), texts in causes.items():
            say = warnings.warn if failed else rank_zero_warn
            self._warn_once(on_layers(texts, len(results)), say=say)

    def _record_metrics(self, trainer: AnyTrainer, validation: Validation) -> None:
        """Record the metrics of the user that are final at the end of a validation or test."""
        metrics = self._logged.at_validation(trainer, validation)
        for callback in trainer.callbacks:
            if isinstance(callback, IntrinsicDimensionHooks):
                metrics = {k: v for k, v in metrics.items() if k not in callback.last_metrics}
        self.history.append_metrics(validation, metrics)

    def _keep_metrics_alone(self, trainer: AnyTrainer) -> None:
        """Record the metrics of a validation that is not measured, if anything ever is."""
        if not trainer.barebones and self.history.records:
            with self._guard("write the history"):
                step = logger_step(trainer)
                self._record_metrics(trainer, Validation(FIT, trainer.current_epoch, step))
                self._save(trainer)

    def _keep_metrics_of_epoch(self, trainer: AnyTrainer) -> None:
        """Record the metrics of the training epoch that has ended, if there is one."""
        with self._guard("write the history"):
            if self._append_metrics_of_epoch(trainer):
                self._save(trainer)

    def _append_metrics_of_epoch(self, trainer: AnyTrainer) -> bool:
        if trainer.barebones or not self.history.records:
            return False
        of_epoch = self._logged.of_epoch(trainer)
        if of_epoch is not None:
            self.history.append_metrics(*of_epoch)
        return of_epoch is not None

    def _write(self, trainer: AnyTrainer, now: "_Pass") -> None:
        if now.logs_directly and trainer.is_global_zero and not is_fast_dev_run(trainer):
            for logger in trainer.loggers:
                with self._guard(f"log to {type(logger).__name__}"):
                    logger.log_metrics(self.last_metrics, step=now.step)
        self._save(trainer)

    def _save(self, trainer: AnyTrainer) -> None:
        """Write what is new of the history into the folder of the run."""
        folder = trainer.log_dir  # on every rank: it is broadcast
        if trainer.loggers and not is_fast_dev_run(trainer) and trainer.is_global_zero:
            if folder is not None:
                self._folder = folder_of(folder, self.prefix)
                self.history.save(self._folder, *self._written)
                self._written = len(self.history.records), len(self.history.metrics)
        elif not trainer.loggers:
            self._warn_once(
                "No logger, no history.csv: callback.history holds all that is measured, and"
                " callback.history.save(folder) writes it",
                say=rank_zero_info,
            )

    def _draw(self, trainer: AnyTrainer, is_last: bool) -> None:
        folder = trainer.log_dir  # on every rank: it is broadcast
        if self._charts is not None and trainer.is_global_zero and not is_fast_dev_run(trainer):
            step, elapsed = logger_step(trainer), self._budget.elapsed
            self._charts.draw(self.history, trainer.loggers, step, folder, elapsed, is_last)

    def _say(self, trainer: AnyTrainer, now: "_Pass") -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        metrics |= self.last_metrics
        if now.stage == BEFORE_TRAINING:
            self._terminal.after_validation(trainer, self.history, metrics, "before training")
        elif now.stage != "fit":
            self._table_is_due = True
        elif not now.logs_directly:  # there may be very many between steps
            name = epoch_name(trainer)
            self._terminal.after_validation(trainer, self.history, metrics, name)

    def _warn_once(
        self,
        text: str,
        what: str | None = None,
        say: Callable[[str], None] = rank_zero_warn,
    ) -> None:
        key = None, what or text  # a text with numbers of the moment is never the same again
        if key not in self._warned and self.on_error != "ignore":
            self._warned.add(key)
            say(f"{type(self).__name__}: {text}")

    def _release(self) -> None:
        """Take every hook off and leave the model as it was. May be called at any time."""
        if self._pass is not None:
            self._pass.measurement.cancel()
            self._pass = None
        self._surroundings.close()

    @contextmanager
    def _guard(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._release()
            if self.on_error == "raise":
                raise
            failure = None, f"could not {doing}: {kind_of(repr(error))}"
            if self.on_error == "warn" and failure not in self._warned:
                self._warned.add(failure)
                warnings.warn(  # in every process: the others only know that one failed
                    f"{type(self).__name__} could not {doing}; the training goes on without this"
                    f" measurement: {error!r}",
                    stacklevel=3,
                )


class IntrinsicDimensionCallback(IntrinsicDimensionHooks, Callback):  # noqa: D101
    __doc__ = IntrinsicDimensionHooks.__doc__  # for `help`, and that of a command line


def _data_of(trainer: AnyTrainer, probe: Iterable[Any] | str | None) -> str:
    """Return what a record calls the set that is measured."""
    if probe is None:
        return "test" if trainer.testing else "val"
    return probe if isinstance(probe, str) else "probe"


def _limits(memory_limit: int | float | Literal["auto"] | None) -> Limits:
    """Return the limits in bytes; none yet for ``"auto"``."""
    if memory_limit is None or memory_limit == "auto":
        return Limits()
    limit = int(positive("memory_limit", memory_limit, "GiB") * 2**30)
    return Limits(limit, limit)


def _smallest_class(per_class: bool | int) -> int | None:
    if per_class is False:
        return None
    if per_class is True:
        return SMALLEST_CLASS
    return whole_number("per_class", per_class, least=MIN_DISTINCT)
