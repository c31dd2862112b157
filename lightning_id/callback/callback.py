"""The Lightning callback: schedules measurements and hands their results to history and loggers."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pytorch_lightning import Callback

from lightning_id._checks import class_given, positive, whole_number
from lightning_id.callback.budget import Budget
from lightning_id.callback.failures import FailurePolicy, OnError
from lightning_id.callback.keys import metrics_of
from lightning_id.callback.outputs import Outputs
from lightning_id.callback.preflight import (
    check_loader,
    check_names,
    check_prefixes,
    configuration_warnings,
)
from lightning_id.callback.running import Moment, RunningMeasurement, Settings
from lightning_id.callback.schedule import EveryNValidations, Schedule
from lightning_id.callback.sets import VAL, Data, OfTheFit, SampleSet, sample_sets
from lightning_id.callback.trainers import (
    AnyModule,
    AnyTrainer,
    callbacks_of,
    is_untrained,
    logger_step,
    stage_of,
)
from lightning_id.functional import get_estimator
from lightning_id.functional.geometry import MIN_DISTINCT
from lightning_id.history import BEFORE_TRAINING, History, Validation
from lightning_id.recording.layers import (
    INPUT,
    LAST_HIDDEN,
    is_automatic,
    is_named,
    select_layer,
    select_layers,
)
from lightning_id.recording.measurement import LayerResult, Options, Plan
from lightning_id.recording.rows import Reduce, RowRule, RowsPerSample
from lightning_id.recording.storage import Limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_WHY = "TwoNN needs a sample and its two nearest neighbours"
SMALLEST_CLASS = 100  # samples: below, the error bar of one class is above 10 %


class _PropertyOfInstances(property):
    """Property that raises for the class: a Trainer reads it of each of its callbacks."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None and owner is not None:
            raise AttributeError(class_given("callbacks", owner))
        return super().__get__(instance, owner)


class CallbackBase:
    """Measure the intrinsic dimension of every layer at validation, next to the accuracy.

    Logs ``id_<estimator>/<layer>`` and its standard error ``id_<estimator>_se/<layer>``, and of
    TwoNN the summary ``id/last_hidden``, ``id/peak``, ``id/peak_depth`` and ``id/peak_over_last``.
    All records are in `history`, in the checkpoint, and, if there is a logger, in ``history.csv``
    in the folder of the run. What cannot be estimated is not logged: the history says why. The
    training is the same to the last bit with and without the callback.

    With ``Trainer(num_sanity_val_steps=-1)`` the sanity check is a whole validation and becomes the
    record of the network before training.

    Args:
        layers: ``"auto"`` (those measured by Ansuini et al., 2019, at most 16), a name, a list of
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
        data: The sample sets to measure during a fit, each on its own fixed samples: ``"val"`` and
            ``"train"``, the loaders of the fit, or names and loaders, for example of an unaugmented
            part of the training set. Keys of every set but the first begin with its name, and only
            the first keeps spectra. All but the validation set are passed through the model in eval
            mode: by ``predict_step`` if you wrote one, else by the forward of the first element of
            the batch, or of the items of a mapping.
        probe: Deprecated spelling of ``data`` with one set.
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
        data: Data = ("val",),
        probe: Iterable[Any] | OfTheFit | None = None,
        dataloader_idx: int = 0,
        max_features: int | None = None,
        memory_limit: int | float | Literal["auto"] | None = "auto",
        max_overhead: float | None = None,
        on_error: OnError = "warn",
        last_hidden: str | None = None,
        prefix: str = "",
        charts: bool = True,
    ) -> None:
        if isinstance(estimators, str) or not isinstance(estimators, Sequence):
            raise ValueError(f"`estimators`: expected a list of names, got {estimators!r}")
        if isinstance(schedule, type):
            raise ValueError(class_given("schedule", schedule))
        if schedule is not None and not isinstance(schedule, Schedule):
            raise ValueError(f"`schedule`: expected a Schedule or None, got {schedule!r}")
        if not isinstance(prefix, str):
            raise ValueError(f"`prefix`: expected a string, got {prefix!r}")
        if not (last_hidden is None or isinstance(last_hidden, str)):
            raise ValueError(f"`last_hidden`: expected a name or None, got {last_hidden!r}")
        self.layers = layers
        self.last_hidden = last_hidden
        self.estimators = {name: get_estimator(name) for name in estimators}
        self.n_samples = whole_number("n_samples", n_samples, MIN_DISTINCT, _WHY)
        self.seed = None if seed is None else whole_number("seed", seed, least=0)
        self.schedule = schedule or EveryNValidations()
        self.on_error = on_error
        self.prefix = prefix
        self.history = History()
        self.last_metrics: dict[str, float] = {}
        self._settings = Settings(
            may_project=is_automatic(layers),
            sets=sample_sets(data if probe is None else _data_of_probe(probe)),
            n_samples=self.n_samples,
            seed=self.seed,
            dataloader_idx=whole_number("dataloader_idx", dataloader_idx, least=0),
            options=Options(
                rule=RowRule(
                    reduce, sample_dim, max_features, 0 if seed is None else seed, rows_per_sample
                ),
                mask_key=mask_key,
                smallest_class=_smallest_class(per_class),
                limits=_limits(memory_limit),
                is_limit_free=memory_limit == "auto",
                is_input_named=is_named(INPUT, layers),
            ),
        )
        self._validations = 0  # run so far, sanity checks not counted
        self._plans: dict[str, Plan] = {}  # of the layers, by sample set
        self._planned_for: tuple[int, tuple[str, ...]] | None = None
        self._running: RunningMeasurement | None = None
        self._last_step_checked = 0  # against the schedule
        self._logged_keys: set[str] = set()
        self._budget = Budget(max_overhead)
        self._failures = FailurePolicy(on_error, type(self).__name__)
        self._outputs = Outputs(prefix, charts, self._failures)

    # --- hooks of Lightning ----------------------------------------------------------------------

    def on_fit_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Resolve the layers, so that a wrong name fails before anything is trained."""
        self._outputs.start()
        self._budget.start()
        self._last_step_checked = trainer.global_step
        if not trainer.barebones:
            check_prefixes(self.prefix, [each.prefix for each in _instances(trainer)])
            names, _ = self._select(pl_module)
            rule = self._settings.options.rule
            check_names("sample_dim", rule.sample_dim, names.values())
            check_names("rows_per_sample", rule.rows_per_sample, names.values())
            for text in configuration_warnings(
                trainer, self.schedule, self.prefix, self._budget.share
            ):
                self._failures.report_once(text)

    def on_train_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Measure before the first step, if the schedule has step 0 and no sanity check did it."""
        if not trainer.barebones and any(each.loader == VAL for each in self._settings.sets):
            check_loader(trainer, self._settings.dataloader_idx)
        records = self.history.records
        is_measured = bool(records) and records[-1]["stage"] == BEFORE_TRAINING
        if trainer.global_step == 0 and not is_measured:
            self._measure_between_steps(trainer, pl_module)

    def on_train_epoch_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Record the metrics of the epoch before, which are final now."""
        self._outputs.begin_epoch(trainer, self.history)

    def on_train_batch_end(
        self, trainer: AnyTrainer, pl_module: AnyModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure after a step, if the schedule has it."""
        if trainer.global_step != self._last_step_checked:  # not while gradients accumulate
            self._last_step_checked = trainer.global_step
            self._measure_between_steps(trainer, pl_module)

    def on_train_epoch_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Note the epoch: the hook of the module, which comes next, may log metrics of it."""
        self._outputs.end_epoch(trainer)

    def on_validation_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Prepare a measurement, if this validation or test is measured."""
        self._release()
        if self._is_due(trainer):
            self._begin(trainer, pl_module, in_validation=True)

    def on_validation_batch_start(
        self,
        trainer: AnyTrainer,
        pl_module: AnyModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the hooks for a batch that holds a chosen sample."""
        # Only now, whatever the order of the callbacks, are averaged weights in their place. All
        # probes pass before any instance adds hooks, which would record the wrong samples.
        for each in _instances(trainer):
            if each._running is not None:
                each._running.pass_probes()
        if self._running is not None:
            self._running.begin_batch(batch, dataloader_idx)

    def on_validation_batch_end(
        self,
        trainer: AnyTrainer,
        pl_module: AnyModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Remove the hooks."""
        if self._running is not None:
            self._running.end_batch(dataloader_idx)

    def on_validation_epoch_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Estimate the layers and log the dimensions in one call, next to the accuracy."""
        self._estimate(trainer, pl_module)

    def on_validation_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Write the history, log a measurement before training, print a line."""
        is_of_fit = stage_of(trainer) == "fit" and not trainer.sanity_checking
        if self._running is None and is_of_fit and not trainer.barebones and self.history.records:
            with self._failures.guard("write the history", self._release):
                self._record_user_metrics(trainer, _now(trainer))
                self._outputs.save(trainer, self.history)
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
        """Record the metrics of the last epoch, and draw the final figures."""
        self._outputs.at_train_end(trainer, self.history, self._budget.elapsed)

    def on_fit_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Print the summary table below the bar, and the folder of the history."""
        self._outputs.at_fit_end(trainer, self.history)

    def on_exception(
        self, trainer: AnyTrainer, pl_module: AnyModule, exception: BaseException
    ) -> None:
        """Remove the hooks: Lightning does not call `teardown` then."""
        if trainer.world_size == 1:  # else the other ranks may not be here to reduce metrics with
            self._outputs.record_epoch(trainer, self.history)
        self._release()
        self._outputs.release()

    def teardown(self, trainer: AnyTrainer, pl_module: AnyModule, stage: str) -> None:
        """Remove the hooks; print the table of a validation or test below its bar."""
        self._release()
        self._outputs.at_teardown(trainer, self.history)

    def plot(self, kind: str = "depth_profile", **options: str) -> "Figure":
        """Draw all measurements so far: see `History.plot`."""
        return self.history.plot(kind, **options)

    @_PropertyOfInstances
    def state_key(self) -> str:
        """Key of this instance in a checkpoint."""
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
        with self._failures.guard("save the history", self._release):
            if self._outputs.append_epoch(trainer, self.history):
                checkpoint["callbacks"][self.state_key] = self.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history of a checkpoint."""
        self.history = History(list(state_dict["records"]), list(state_dict["metrics"]))
        spectra = state_dict.get("spectra", {})
        self.history.spectra = {Validation(*place): held for place, held in spectra.items()}
        self._validations = state_dict["validations"]

    # --- implementation of the hooks -------------------------------------------------------------

    def _measure_between_steps(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        if trainer.barebones or not self.schedule.at_step(trainer.global_step):
            return
        if self._is_affordable(trainer):
            self._begin(trainer, pl_module, in_validation=False)
            self._estimate(trainer, pl_module)
            self._end(trainer)

    def _is_due(self, trainer: AnyTrainer) -> bool:
        """Return whether this validation or test is measured, the same on all ranks."""
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
            self._failures.report_once(
                f"not every measurement is made: {spent:.1f} s of {elapsed:.1f} s went into"
                f" measuring, more than max_overhead={self._budget.share:g}",
                key="budget",
            )
        return is_affordable

    def _begin(self, trainer: AnyTrainer, pl_module: AnyModule, in_validation: bool) -> None:
        names, last_hidden = self._select(pl_module)  # a wrong name raises, whatever `on_error`
        if self._planned_for != (id(pl_module), tuple(names)):
            self._planned_for = id(pl_module), tuple(names)
            self._plans = {}
        self._running = RunningMeasurement(
            trainer,
            pl_module,
            names,
            last_hidden,
            self._settings,
            Moment(_now(trainer, in_validation), in_validation),
            self._plans,
            self._failures,
        )

    def _select(self, pl_module: AnyModule) -> tuple[dict[str, str], str | None]:
        """Return the layers with the names they are shown under, and the last hidden one."""
        names = select_layers(pl_module, self.layers)
        if self.last_hidden is None:
            return names, None
        last = select_layer(pl_module, "last_hidden", self.last_hidden)
        names.pop(LAST_HIDDEN, None)
        return names, names.setdefault(last, last)

    def _estimate(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        running = self._running
        if running is None:
            return
        with self._failures.guard("estimate the layers", self._release):
            is_first = not self._plans
            results: dict[SampleSet, list[LayerResult]] = {}
            try:
                for sample_set, result in running.results(self.estimators):
                    results.setdefault(sample_set, []).append(result)
                    self._record(running.moment, sample_set, result)
            finally:
                for of_set in results.values():
                    self._failures.report_layers(of_set)
            self.last_metrics = {}
            for each, of_set in results.items():
                spectra = {r.layer: r.spectrum for r in of_set if r.spectrum is not None}
                if spectra and not each.key_prefix:
                    self.history.keep_spectra(running.moment.validation, spectra)
                self.last_metrics |= metrics_of(of_set, f"{self.prefix}{each.key_prefix}")
            self._logged_keys |= self.last_metrics.keys()
            if is_first and self._plans:
                self._report_missing_last_hidden()
                n_keys = len(self.last_metrics)
                self._outputs.announce(
                    trainer, results, running.nbytes, list(self.estimators), n_keys
                )
            if not running.moment.logs_directly:
                # Identical on all ranks: Lightning's advice to average them would cost four
                # collectives a key. It comes when metrics are computed, before `_end`.
                running.surroundings.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
                pl_module.log_dict(self.last_metrics, batch_size=1, add_dataloader_idx=False)

    def _record(self, moment: Moment, sample_set: SampleSet, result: LayerResult) -> None:
        stage, epoch, step = moment.validation
        common = {
            "stage": stage,
            "epoch": epoch,
            "step": step,
            "data": sample_set.name,
            "reduce": self._settings.options.rule.reduce,
        }
        for fields in result.records():
            self.history.append(**common, **fields)
        for text in result.batch_notes:
            self._failures.report_once(text)
        if self.on_error == "raise" and result.errors:
            name, error = next(iter(result.errors.items()))
            raise RuntimeError(f"{name} of layer {result.layer!r} failed: {error!r}") from error

    def _report_missing_last_hidden(self) -> None:
        reason = next(iter(self._plans.values())).reasons.get(LAST_HIDDEN)
        if reason is not None and "twonn" in self.estimators:
            self._failures.report_once(
                f"no id/last_hidden: {reason}; last_hidden=... names a layer to take"
            )

    def _record_user_metrics(self, trainer: AnyTrainer, validation: Validation) -> None:
        ours = set().union(*(each._logged_keys for each in _instances(trainer)))
        self._outputs.record_validation(trainer, self.history, validation, ours)

    def _end(self, trainer: AnyTrainer) -> None:
        running = self._running
        if running is not None:
            with self._failures.guard("write the history", self._release):
                if running.moment.in_validation:
                    self._record_user_metrics(trainer, running.moment.validation)
                self._outputs.after(
                    trainer, self.history, running.moment, self.last_metrics, self._budget.elapsed
                )
            self._budget.spend(running.seconds)
        self._release()

    def _release(self) -> None:
        """Remove every hook and leave the model as it was. Idempotent; safe at any point."""
        if self._running is not None:
            self._running.cancel()
            self._running = None


class IntrinsicDimensionCallback(CallbackBase, Callback):  # noqa: D101
    __doc__ = CallbackBase.__doc__  # for `help`, and that of a command line


def _instances(trainer: AnyTrainer) -> list[CallbackBase]:
    """Return the callbacks of this package in a Trainer."""
    return [each for each in callbacks_of(trainer) if isinstance(each, CallbackBase)]


def _now(trainer: AnyTrainer, in_validation: bool = True) -> Validation:
    """Return stage, epoch and step of records made now."""
    untrained = is_untrained(trainer, not in_validation)
    return Validation(
        BEFORE_TRAINING if untrained else stage_of(trainer),
        trainer.current_epoch,
        logger_step(trainer) if in_validation else trainer.global_step,
    )


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
    return whole_number("per_class", per_class, MIN_DISTINCT, _WHY)


def _data_of_probe(probe: Iterable[Any] | OfTheFit) -> Data:
    """Return the value of `data` that the deprecated argument `probe` stands for."""
    new = f"data=[{probe!r}]" if isinstance(probe, str) else "data={'probe': loader}"
    warnings.warn(
        f"`probe` is deprecated and will be removed in the next release; use {new}",
        FutureWarning,
        stacklevel=3,
    )
    if isinstance(probe, str):
        return {probe: probe}
    return {"probe": probe}
