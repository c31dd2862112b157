"""The callback for the Trainer of Hugging Face's ``transformers``."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lightning_id.callback.monitoring import Monitor
from lightning_id.callback.schedule import EveryNValidations, Schedule
from lightning_id.history import BEFORE_TRAINING, FIT, History
from lightning_id.recording.passes import kept_rng
from lightning_id.recording.rule import Reduce

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class IntrinsicDimensionCallback(TrainerCallback):  # type: ignore[misc]
    """Measure the intrinsic dimension of every layer in a ``transformers.Trainer``.

    At evaluations, or after the steps of a schedule, and before the first step. Each measurement
    passes its own fixed samples through the model, batch by batch in eval mode and without
    gradients; it keeps one row for each sample and layer, within ``memory_limit``. The training is
    bit-identical with and without it.

    `attach` adds the callback to a Trainer. The metrics then go through ``Trainer.log`` to all
    trackers, under the keys of `lightning_id.IntrinsicDimensionCallback`, and with ``eval_`` before
    the summary into the metrics of the evaluation, so that
    ``metric_for_best_model="eval_id/last_hidden"`` works. ``history.csv`` is in the output
    directory; ``lightning-id report`` reads it.

    Args:
        samples: The samples: a DataLoader, a Dataset for the Trainer's collator, or None for its
            evaluation set.
        schedule: `lightning_id.EveryNValidations` counts evaluations; `lightning_id.AtSteps` and
            `lightning_id.LogSpaced` measure between steps. None for every evaluation.
        reduce: As of `lightning_id.IntrinsicDimensionCallback`; by default the mean over tokens.
        options: All others of `lightning_id.monitor`: ``layers``, ``estimators``, ``n_samples``,
            ``memory_limit``, ``last_hidden``, ``prefix``, ...

    Attributes:
        history: The `History` of all measurements.
        last_metrics: Metrics of the last measurement, by key.

    Raises:
        ValueError: At the start of the training, if an argument is out of its range.
    """

    def __init__(
        self,
        samples: Iterable[Any] | Dataset[Any] | None = None,
        schedule: Schedule | None = None,
        *,
        reduce: Reduce = "mean",
        **options: Any,
    ) -> None:
        self.schedule = schedule or EveryNValidations()
        self._samples = samples
        self._options = options | {"reduce": reduce}
        self._trainer: Trainer | None = None
        self._watch: Monitor | None = None
        self._evaluations = 0
        self.history = History()

    def attach(self, trainer: Trainer) -> None:
        """Add the callback to a Trainer, whose ``log`` then takes the metrics."""
        self._trainer = trainer
        trainer.add_callback(self)

    @property
    def last_metrics(self) -> dict[str, float]:
        """Metrics of the last measurement, by key."""
        return {} if self._watch is None else self._watch.last_metrics

    def plot(self, kind: str = "depth_profile", **options: str) -> "Figure":
        """Draw all measurements so far: see `History.plot`."""
        return self.history.plot(kind, **options)

    # --- events of the Trainer -------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Resolve the layers, and measure the network before the first step."""
        self._evaluations = 0
        watch = self._start(args, kwargs["model"])
        if state.global_step == 0:
            self._measure(watch, state, BEFORE_TRAINING)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure after a step, if the schedule has it."""
        if self._watch is not None and self.schedule.at_step(state.global_step):
            self._measure(self._watch, state, FIT)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Measure after an evaluation, and record its metrics next to the dimensions."""
        watch = self._watch or self._start(args, kwargs["model"])  # if there was no training
        theirs = {k: v for k, v in metrics.items() if isinstance(v, (int, float)) and k != "epoch"}
        watch.n_steps = state.global_step
        watch.record(int(state.epoch or 0), **theirs)
        if self.schedule.at_validation(self._evaluations):
            found = self._measure(watch, state, FIT if state.global_step else "validate")
            metrics |= {f"eval_{key}": value for key, value in found.items() if "id/" in key}
        self._evaluations += 1

    # --- implementation --------------------------------------------------------------------------

    def _start(self, args: TrainingArguments, model: Any) -> Monitor:
        self._watch = Monitor(
            model,
            self._loader(args),
            log=self._log if self._trainer is not None else None,
            folder=Path(args.output_dir),
            **self._options,
        )
        self.history = self._watch.history
        return self._watch

    def _loader(self, args: TrainingArguments) -> Iterable[Any]:
        samples = self._samples
        # Else samples come one by one, as of a `datasets.Dataset`.
        is_loader = isinstance(samples, DataLoader) or not hasattr(samples, "__getitem__")
        if samples is not None and is_loader:
            return samples  # type: ignore[return-value]  # it comes in batches
        if self._trainer is None:
            raise ValueError(
                "`samples`: expected a DataLoader, got none; give one, or add the callback by"
                " callback.attach(trainer), which has the evaluation set and the collator"
            )
        with kept_rng():
            theirs = self._trainer.get_eval_dataloader(samples)
        return DataLoader(
            theirs.dataset, args.per_device_eval_batch_size, collate_fn=theirs.collate_fn
        )

    def _measure(self, watch: Monitor, state: TrainerState, stage: str) -> dict[str, float]:
        watch.n_steps = state.global_step
        return watch.measure(stage, epoch=int(state.epoch or 0))

    def _log(self, metrics: dict[str, float], step: int) -> None:
        assert self._trainer is not None
        with kept_rng():
            self._trainer.log(dict(metrics))
