"""Outputs of a callback: history files, loggers, terminal, figures."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_id.callback.budget import Budget
from lightning_id.callback.charts import Charts
from lightning_id.callback.curves import LayerCurves
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.logged import LoggedMetrics
from lightning_id.callback.loggers import key_names
from lightning_id.callback.running import Moment, RunningMeasurement
from lightning_id.callback.sets import SampleSet
from lightning_id.callback.terminal import Terminal, epoch_name, plan_table, show_where
from lightning_id.callback.trainers import AnyTrainer, logger_step, writes_files
from lightning_id.history import BEFORE_TRAINING, History, Validation, folder_of
from lightning_id.recording.layers import LAST_HIDDEN
from lightning_id.recording.results import LayerResult

MANY_KEYS = 200  # the most that one hosted tracker accepts in a request


class Outputs:
    """Writes, logs, prints and draws the history of one callback."""

    def __init__(
        self,
        history: History,
        prefix: str,
        draws: bool,
        draws_layers: bool,
        budget: Budget,
        failures: FailurePolicy,
    ) -> None:
        self._history = history
        self._prefix = prefix
        self._budget = budget
        self._failures = failures
        self._terminal = Terminal(prefix)
        self._table_is_due = False  # of a validation or test, printed when its bar is finished
        self._charts = Charts(prefix, failures) if draws else None
        self._curves = LayerCurves(prefix) if draws_layers else None
        self.start()

    def start(self) -> None:
        """Begin a fit, which writes files of its own."""
        self._written = 0, 0  # records and metrics in the files of this run
        self._folder: Path | None = None  # of the files of this run
        self._logged = LoggedMetrics()

    def begin_epoch(self, trainer: AnyTrainer) -> None:
        """Record the metrics of the training epoch before, which are final now."""
        self.record_epoch(trainer)
        self._logged.begin_epoch(trainer)

    def end_epoch(self, trainer: AnyTrainer) -> None:
        """Note that a training epoch ends: its metrics are not final yet."""
        self._logged.end_epoch(trainer)

    def record_epoch(self, trainer: AnyTrainer) -> None:
        """Record and write the metrics of the training epoch that has ended, if there is one."""
        with self._guard("write the history"):
            if self.append_epoch(trainer):
                self._save(trainer)

    def append_epoch(self, trainer: AnyTrainer) -> bool:
        """Record the metrics of the training epoch that has ended; return whether there is one."""
        if trainer.barebones or not self._history.records:
            return False
        of_epoch = self._logged.of_epoch(trainer)
        if of_epoch is not None:
            self._history.append_metrics(*of_epoch)
        return of_epoch is not None

    def after_unmeasured(
        self, trainer: AnyTrainer, validation: Validation, ours: Iterable[str]
    ) -> None:
        """Record and write the metrics of a validation of the fit that was not measured."""
        if not trainer.barebones and self._history.records:
            with self._guard("write the history"):
                self._record_validation(trainer, validation, ours)
                self._save(trainer)

    def announce(
        self,
        trainer: AnyTrainer,
        running: RunningMeasurement,
        estimators: Sequence[str],
        n_keys: int,
    ) -> None:
        """Print the layers of the first measurement, and lay out TensorBoard's custom scalars."""
        for plan in list(running.plans.values())[:1]:
            reason = plan.reasons.get(LAST_HIDDEN)
            if reason is not None and "twonn" in estimators:
                self._failures.report_once(
                    f"no id/last_hidden: {reason}; last_hidden=... names a layer to take"
                )
        for each, results in running.results.items():
            self._terminal.show_plan(
                trainer, plan_table(results, each.name, running.nbytes[each.name])
            )
        if self._charts is not None and trainer.is_global_zero:
            layers = {
                each.key_prefix: list(key_names([result.layer for result in results]).values())
                for each, results in running.results.items()
            }
            theirs = [key for key in trainer.callback_metrics if key.startswith("val")]
            self._charts.lay_out(trainer.loggers, layers, estimators, theirs)
        if n_keys > MANY_KEYS:
            self._failures.report_once(
                f"{n_keys} numbers are logged at every measurement; some trackers take at most"
                f" {MANY_KEYS} in a request: choose fewer layers or estimators"
            )

    def after(
        self,
        trainer: AnyTrainer,
        moment: Moment,
        results: Mapping[SampleSet, Sequence[LayerResult]],
        metrics: Mapping[str, float],
        ours: Iterable[str],
    ) -> None:
        """Record the metrics of the user at a measurement; log, write, print and draw it."""
        with self._guard("write the history"):
            if moment.in_validation:
                self._record_validation(trainer, moment.validation, ours)
            if writes_files(trainer):
                self._log(trainer, moment, results, metrics)
            self._save(trainer)
            self._print(trainer, moment, metrics)
            self._draw(trainer, is_last=moment.validation.stage in ("validate", "test"))

    def record_last(self, trainer: AnyTrainer) -> None:
        """Record and write the metrics of the last epoch, and the last spectra."""
        with self._guard("write the history"):
            has_spectra = self._history.solve_spectra()
            if self.append_epoch(trainer) or has_spectra:
                self._save(trainer)

    def at_train_end(self, trainer: AnyTrainer) -> None:
        """Record all that is left, and draw the final figures."""
        self.record_last(trainer)
        with self._guard("draw the figures"):
            self._draw(trainer, is_last=True)

    def at_fit_end(self, trainer: AnyTrainer) -> None:
        """Print the summary table below the bar, and the folder of the history."""
        with self._guard("print the table"):
            self._terminal.at_end(trainer, self._history)
            if self._folder is not None:
                show_where(trainer, self._folder)

    def at_teardown(self, trainer: AnyTrainer) -> None:
        """Print the summary table of a validation or test below its bar."""
        with self._guard("print the table"):
            if self._table_is_due:
                self._table_is_due = False
                self._terminal.at_end(trainer, self._history)
        self.release()

    def release(self) -> None:
        """Remove the table below the progress bar, and close files. Idempotent."""
        self._terminal.release()
        if self._curves is not None:
            self._curves.close()

    def _record_validation(
        self, trainer: AnyTrainer, validation: Validation, ours: Iterable[str]
    ) -> None:
        """Record the metrics of the user; ``ours`` are keys of callbacks of this package."""
        hidden = set(ours)
        metrics = self._logged.at_validation(trainer, validation)
        theirs = {key: value for key, value in metrics.items() if key not in hidden}
        self._history.append_metrics(validation, theirs)

    def _log(
        self,
        trainer: AnyTrainer,
        moment: Moment,
        results: Mapping[SampleSet, Sequence[LayerResult]],
        metrics: Mapping[str, float],
    ) -> None:
        """Log metrics that Lightning drops, and the curve of each layer."""
        step = moment.validation.step
        for logger in trainer.loggers if moment.logs_directly else ():
            with self._guard(f"log to {type(logger).__name__}"):
                logger.log_metrics(dict(metrics), step=step)
        if self._curves is not None:
            with self._guard("write the curves of the layers"):
                self._curves.write(trainer.loggers, results, step)

    def _save(self, trainer: AnyTrainer) -> None:
        """Append the new records to the files in the folder of the run."""
        folder = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.loggers:
            self._failures.report_once(
                "No logger, no history.csv: callback.history holds all measurements, and"
                " callback.history.save(folder) writes them",
                emit=rank_zero_info,
            )
        elif folder is not None and writes_files(trainer):
            self._folder = folder_of(folder, self._prefix)
            self._history.save(self._folder, *self._written)
            self._written = len(self._history.records), len(self._history.metrics)

    def _draw(self, trainer: AnyTrainer, is_last: bool) -> None:
        folder = trainer.log_dir  # on every rank: it is broadcast
        if self._charts is not None and writes_files(trainer):
            step, elapsed = logger_step(trainer), self._budget.elapsed
            self._charts.draw(self._history, trainer.loggers, step, folder, elapsed, is_last)

    def _print(self, trainer: AnyTrainer, moment: Moment, metrics: Mapping[str, float]) -> None:
        shown = {key: float(value) for key, value in trainer.callback_metrics.items()}
        shown |= metrics
        stage = moment.validation.stage
        if stage == BEFORE_TRAINING:
            self._terminal.after_validation(trainer, self._history, shown, "before training")
        elif stage != "fit":
            self._table_is_due = True
        elif not moment.logs_directly:  # there may be very many between steps
            self._terminal.after_validation(trainer, self._history, shown, epoch_name(trainer))

    def _guard(self, action: str) -> AbstractContextManager[None]:
        return self._failures.guard(action, self.release)
