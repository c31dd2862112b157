"""The Lightning callback: schedules measurements and passes their results to the outputs."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback

from lightning_id.callback.failures import FailurePolicy, OnError
from lightning_id.callback.outputs import Outputs
from lightning_id.callback.running import Carried, Comparisons, Moment, RunningMeasurement
from lightning_id.callback.schedule import Budget, EveryNValidations, Schedule
from lightning_id.callback.settings import (
    VAL,
    CallbackSettings,
    Data,
    InstanceProperty,
    OfTheFit,
    check_arguments,
    check_layers,
    check_prefixes,
    configuration_warnings,
)
from lightning_id.callback.trainers import (
    AnyModule,
    AnyTrainer,
    callbacks_of,
    measured_loader,
    pass_set,
    stage_of,
)
from lightning_id.functional import get_estimator
from lightning_id.history import BEFORE_TRAINING, FIT, History
from lightning_id.recording.processes import DistributedProcesses, SingleProcess
from lightning_id.recording.rule import Reduce, RowsPerSample

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CallbackBase:
    """Measure the intrinsic dimension of every layer at validation, next to the accuracy.

    Logs ``id_<estimator>/<layer>`` and its standard error ``id_<estimator>_se/<layer>``, and for
    TwoNN the change since the first measurement, ``id_twonn_change/<layer>``, and the summary
    ``id/last_hidden``, ``id/peak``, ``id/peak_depth`` and ``id/peak_over_last``.
    All records are in `history`, in the checkpoint and, if there is a logger, in ``history.csv`` in
    the folder of the run. A value that cannot be estimated is not logged; its record has the
    reason. The training is bit-identical with and without the callback.

    With ``Trainer(num_sanity_val_steps=-1)`` the sanity check is a whole validation, and is
    measured as the network before training.

    Args:
        layers: ``"auto"`` (at most 16 layers), a name, a list of names, or names and the aliases
            under which they are shown. A name may be exact, a glob, ``"re:..."``, ``"!..."`` to
            exclude, or ``"input"``. The input of the last Linear is always measured, as
            ``"last_hidden"`` unless it is the output of a layer that is measured anyway.
        estimators: ``"twonn"``, ``"twonn_gaussian"`` (of Gaussian rows of the same covariance),
            ``"pca"`` (components for 90 % of the variance), ``"pca_standardized"``, ``"gride"``,
            ``"gride_plateau"`` (where it does not depend on the scale), ``"mle"``, ``"ess"`` (the
            reading from above), ``"participation_ratio"``, ``"effective_rank"``, or a registered
            one.
        n_samples: Samples to measure, the same ones at every validation. Values depend on it:
            compare only runs with the same number.
        seed: Seed of their uniform choice, by a private generator; None takes the first ones.
        schedule: When to measure: `EveryNValidations`, or `AtSteps` and `LogSpaced` between
            training steps; None for every validation.
        reduce: How tokens or maps become one row per sample: ``"flatten"``, ``"mean"``, ``"max"``,
            ``"cls"``, ``"last"``, ``"per-position"`` (one token of each sample, drawn once) or
            ``"tokens"`` (as many tokens as samples, drawn once from all samples). Values depend
            on it. Padding by an ``attention_mask`` in the batch, or by the padding token of the
            network in ``input_ids``, is left out, except with ``"flatten"``; the record notes it.
        sample_dim: Axis of the samples, for all layers or by name; of ``"input"`` it is that of the
            batch. None for the first, or the second where a module has ``batch_first=False``.
        rows_per_sample: For all layers or by name, if an output has other rows than one for each
            sample: the number of consecutive rows of a sample, ``"first"`` for the first rows (of
            concatenated views), ``"all"`` for every row as a sample (nodes of graphs), ``"chunks"``
            where a layer is called several times for a batch, each time with the next samples.
        mask_key: Key of the padding mask in a batch (1 for tokens that count), if it has another
            name than ``"attention_mask"``; padding is left out of the rows.
        per_class: Also measure each class with at least this many samples, 100 if True, and log
            mean and standard deviation over the classes. Labels are the first tensor of a batch
            with one whole number per sample.
        data: Sample sets to measure during a fit, each on its own fixed samples: ``"val"`` and
            ``"train"``, the loaders of the fit, or names and loaders. Keys of every set but the
            first begin with its name. All but the validation set are passed through the model in
            eval mode: by your ``predict_step``, else by ``forward`` of the first element, or of the
            items of a mapping.
        probe: Deprecated spelling of ``data`` with one set.
        dataloader_idx: The validation loader that is measured, if there are several.
        max_features: Randomly project layers wider than this; the record notes it. Squared
            distances change by about sqrt(2 / max_features). None for never.
        memory_limit: GiB of rows on the device, and again in host memory; the rest goes to a
            temporary file. ``"auto"`` is a quarter of the free memory of each; the largest layers
            that ``layers="auto"`` chose and that do not fit are projected to 4096 features, with a
            warning and a note. None keeps all rows on the device.
        max_overhead: Largest share of the time since the start of the fit spent on measuring, for
            example 0.02; a validation that would exceed it is not measured. None for no limit.
        on_error: Reaction to a failure of the callback: ``"warn"`` (the training goes on),
            ``"raise"`` or ``"ignore"``. A layer name that does not exist always raises, at the
            start.
        last_hidden: The layer whose output is the last hidden representation; None for the input of
            the last Linear.
        prefix: The beginning of every logged key, if a Trainer has several of these callbacks;
            ``history.csv`` is then in the folder of that name below that of the run.
        charts: Whether to draw depth profile, all layers over training and heat map into every
            logger, in at most one percent of the time and at the end, and to lay out TensorBoard's
            custom scalars.
        layer_curves: Whether TensorBoard gets a run for each layer, ``layers/<order>-<layer>``, so
            that one chart shows all layers in their colours.
        positions: The places of the tokens that ``reduce="tokens"`` may draw, counted without
            padding; negative ones from the end. None for all.
        tokens_per_sample: Tokens of one sample that ``reduce="tokens"`` may draw at most; None for
            all.

    Attributes:
        history: The `History` of all measurements.
        last_metrics: Metrics logged at the last measurement, by key.

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
        layer_curves: bool = True,
        positions: Sequence[int] | None = None,
        tokens_per_sample: int | None = None,
    ) -> None:
        check_arguments(estimators, schedule, last_hidden, prefix)
        self.layers = layers
        self.last_hidden = last_hidden
        self.estimators = {name: get_estimator(name) for name in estimators}
        self.schedule = schedule or EveryNValidations()
        self.on_error = on_error
        self.prefix = prefix
        self.history = History()
        self.last_metrics: dict[str, float] = {}
        self._settings = CallbackSettings(
            layers=layers,
            n_samples=n_samples,
            seed=seed,
            reduce=reduce,
            sample_dim=sample_dim,
            rows_per_sample=rows_per_sample,
            mask_key=mask_key,
            per_class=per_class,
            max_features=max_features,
            memory_limit=memory_limit,
            last_hidden=last_hidden,
            positions=positions,
            tokens_per_sample=tokens_per_sample,
            data=data,
            probe=probe,
            dataloader_idx=dataloader_idx,
        )
        self.n_samples, self.seed = self._settings.n_samples, self._settings.seed
        self._validations = 0  # run so far, sanity checks not counted
        self._carried = Carried()
        self._running: RunningMeasurement | None = None
        self._last_step_checked = 0  # against the schedule
        self._logged_keys: set[str] = set()
        self._failures = FailurePolicy(on_error, type(self).__name__, rank_zero_warn)
        self._budget = Budget(max_overhead, self._failures)
        self._outputs = Outputs(
            self.history, prefix, charts, layer_curves, self._budget, self._failures
        )

    # --- hooks of Lightning ----------------------------------------------------------------------

    def on_fit_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Resolve the layers, so that a wrong name fails before anything is trained."""
        self._outputs.start()
        self._budget.start()
        self._last_step_checked = trainer.global_step
        if not trainer.barebones:
            check_prefixes(self.prefix, [each.prefix for each in _instances(trainer)])
            check_layers(self._settings, pl_module)
            for text in configuration_warnings(
                trainer, self.schedule, self.prefix, self._budget.share
            ):
                self._failures.report_once(text)

    def on_train_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Measure before the first step, if the schedule has step 0 and no sanity check did it."""
        takes_val = any(each.loader == VAL for each in self._settings.sets)
        if takes_val and not trainer.barebones and trainer.val_dataloaders is not None:
            measured_loader(trainer, self._settings.dataloader_idx)  # raises if there is none
        records = self.history.records
        is_measured = bool(records) and records[-1]["stage"] == BEFORE_TRAINING
        if trainer.global_step == 0 and not is_measured:
            self._measure_between_steps(trainer, pl_module)

    def on_train_epoch_start(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Record the metrics of the epoch before, which are final now."""
        self._outputs.begin_epoch(trainer)

    def on_train_batch_end(
        self, trainer: AnyTrainer, pl_module: AnyModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure after a step, if the schedule has it."""
        if trainer.global_step != self._last_step_checked:  # not while gradients accumulate
            self._last_step_checked = trainer.global_step
            self._measure_between_steps(trainer, pl_module)

    def on_train_epoch_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Note the epoch: the hook of the module, which comes next, may log metrics of it."""
        self._outputs.logged.end_epoch(trainer)

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
                each._running.pass_sets()
        if self._running is not None and dataloader_idx == self._settings.dataloader_idx:
            self._running.begin_batch(batch)

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
        if self._running is not None and dataloader_idx == self._settings.dataloader_idx:
            self._running.end_batch()

    def on_validation_epoch_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Estimate the layers and log the dimensions in one call, next to the accuracy."""
        self._estimate(trainer, pl_module)

    def on_validation_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Pass the measurement on; of an unmeasured validation, write the metrics of the user."""
        is_of_fit = stage_of(trainer) == "fit" and not trainer.sanity_checking
        if self._running is None and is_of_fit:
            now = Moment.now(trainer).validation
            self._outputs.after_unmeasured(trainer, now, _keys_of_instances(trainer))
        self._end(trainer)
        if not trainer.sanity_checking:
            self._validations += 1

    on_test_start = on_validation_start
    on_test_batch_start = on_validation_batch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def on_test_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Pass the measurement on."""
        self._end(trainer)

    def on_train_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Record the metrics of the last epoch, and draw the final figures."""
        self._outputs.at_train_end(trainer)

    def on_fit_end(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        """Print the summary table below the bar, and the folder of the history."""
        self._outputs.at_fit_end(trainer)

    def on_exception(
        self, trainer: AnyTrainer, pl_module: AnyModule, exception: BaseException
    ) -> None:
        """Remove the hooks, for Lightning calls no `teardown` then; record all that is left."""
        self._release()
        self._outputs.release()
        if trainer.world_size == 1:  # else the other ranks may not be here to reduce metrics with
            self._outputs.record_last(trainer)

    def teardown(self, trainer: AnyTrainer, pl_module: AnyModule, stage: str) -> None:
        """Remove the hooks; print the table of a validation or test below its bar."""
        self._release()
        self._outputs.at_teardown(trainer)

    def plot(self, kind: str = "depth_profile", **options: str) -> "Figure":
        """Draw all measurements so far: see `History.plot`."""
        return self.history.plot(kind, **options)

    @InstanceProperty
    def state_key(self) -> str:
        """Key of this instance in a checkpoint."""
        return f"{type(self).__qualname__}{ {'prefix': self.prefix, 'layers': self.layers}!r}"

    def state_dict(self) -> dict[str, Any]:
        """Return the history in plain types, which ``torch.load(weights_only=True)`` reads."""
        return self.history.state_dict() | {
            "validations": self._validations,
            "comparisons": self._carried.comparisons.state_dict(),
        }

    def on_save_checkpoint(
        self, trainer: AnyTrainer, pl_module: AnyModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the metrics of an epoch that has just ended too: they are recorded only later."""
        with self._failures.guard("save the history", self._release):
            if self._outputs.logged.record_epoch(trainer):
                checkpoint["callbacks"][self.state_key] = self.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history of a checkpoint."""
        self.history.load_state_dict(state_dict)
        self._validations = state_dict["validations"]
        self._carried.comparisons = Comparisons(**state_dict["comparisons"])

    # --- implementation of the hooks -------------------------------------------------------------

    def _measure_between_steps(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        if trainer.barebones or not self.schedule.at_step(trainer.global_step):
            return
        if self._budget.allows(trainer.strategy.broadcast):
            self._begin(trainer, pl_module, in_validation=False)
            self._estimate(trainer, pl_module)
            self._end(trainer)

    def _is_due(self, trainer: AnyTrainer) -> bool:
        """Return whether this validation or test is measured, identical on all ranks."""
        if trainer.barebones:
            return False
        if trainer.sanity_checking:
            # Two batches are too few; a whole validation of fresh weights is the untrained network.
            whole = trainer.num_sanity_val_batches == trainer.num_val_batches
            return bool(whole and trainer.global_step == 0)
        if stage_of(trainer) != "fit":
            return True
        is_scheduled = self.schedule.at_validation(self._validations)
        return is_scheduled and self._budget.allows(trainer.strategy.broadcast)

    def _begin(self, trainer: AnyTrainer, pl_module: AnyModule, in_validation: bool) -> None:
        # A wrong name raises, whatever `on_error`.
        sets = self._settings.sets_of_stage(stage_of(trainer))
        dataloader_idx = self._settings.dataloader_idx
        self._running = RunningMeasurement(
            pl_module,
            self._settings.select(pl_module),
            self._settings,
            sets,
            Moment.now(trainer, in_validation),
            self._carried,
            self._failures,
            DistributedProcesses() if trainer.world_size > 1 else SingleProcess(),
            partial(pass_set, trainer, pl_module, dataloader_idx),
        )
        for each in sets if in_validation else ():
            if each.loader == VAL:
                self._running.hook(each, partial(measured_loader, trainer, dataloader_idx))

    def _estimate(self, trainer: AnyTrainer, pl_module: AnyModule) -> None:
        running = self._running
        if running is None:
            return
        with self._failures.guard("estimate the layers", self._release):
            stage, is_first = running.moment.validation.stage, not running.plans
            compares = stage in (BEFORE_TRAINING, FIT)
            running.estimate(self.estimators, self.history, compares, defers_spectra=stage == FIT)
            self.last_metrics = running.metrics(self.prefix)
            self._logged_keys |= self.last_metrics.keys()
            if is_first and running.plans:
                n_keys = len(self.last_metrics)
                self._outputs.announce(trainer, running, list(self.estimators), n_keys)
            if not running.moment.logs_directly:
                # Identical on all ranks: Lightning's advice to average them would cost four
                # collectives a key. It comes when metrics are computed, before `_end`.
                running.surroundings.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
                pl_module.log_dict(self.last_metrics, batch_size=1, add_dataloader_idx=False)

    def _end(self, trainer: AnyTrainer) -> None:
        running = self._running
        if running is not None:
            try:
                ours = _keys_of_instances(trainer)
                self._outputs.after(
                    trainer, running.moment, running.results, self.last_metrics, ours
                )
                self._budget.spent += running.seconds
            finally:
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


def _keys_of_instances(trainer: AnyTrainer) -> set[str]:
    """Return the keys logged by callbacks of this package; all others are of the user."""
    return set().union(*(each._logged_keys for each in _instances(trainer)))
