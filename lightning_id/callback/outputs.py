"""Passes the results of a callback on: history files, loggers, the terminal, figures."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_id.callback.charts import Charts
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.keys import plan_table
from lightning_id.callback.logged import LoggedMetrics
from lightning_id.callback.loggers import key_names
from lightning_id.callback.running import Moment
from lightning_id.callback.sets import SampleSet
from lightning_id.callback.terminal import Terminal, epoch_name, show_where
from lightning_id.callback.trainers import AnyTrainer, is_fast_dev_run, logger_step
from lightning_id.history import BEFORE_TRAINING, History, Validation, folder_of
from lightning_id.recording.measurement import LayerResult

MANY_KEYS = 200  # the most that one hosted tracker accepts in a request


class Outputs:
    """History files, loggers, terminal and figures of one callback.

    Args:
        prefix: The beginning of every logged key; also names the folder of the files.
        draws: Whether figures are drawn.
        failures: Handles exceptions: one output that fails does not stop the others.
    """

    def __init__(self, prefix: str, draws: bool, failures: FailurePolicy) -> None:
        self._prefix = prefix
        self._failures = failures
        self._terminal = Terminal(prefix)
        self._table_is_due = False  # of a validation or test, printed when its bar is finished
        self._charts = Charts(prefix) if draws else None
        self.start()

    def start(self) -> None:
        """Begin a fit, which writes files of its own."""
        self._written = 0, 0  # records and metrics in the files of this run
        self._folder: Path | None = None  # of the files of this run
        self._logged = LoggedMetrics()

    def begin_epoch(self, trainer: AnyTrainer, history: History) -> None:
        """Record the metrics of the training epoch before, which are final now."""
        self.record_epoch(trainer, history)
        self._logged.begin_epoch(trainer)

    def end_epoch(self, trainer: AnyTrainer) -> None:
        """Note that a training epoch ends: its metrics are not final yet."""
        self._logged.end_epoch(trainer)

    def record_epoch(self, trainer: AnyTrainer, history: History) -> None:
        """Record and write the metrics of the training epoch that has ended, if there is one."""
        with self._guard("write the history"):
            if self.append_epoch(trainer, history):
                self.save(trainer, history)

    def append_epoch(self, trainer: AnyTrainer, history: History) -> bool:
        """Record the metrics of the training epoch that has ended; return whether there is one."""
        if trainer.barebones or not history.records:
            return False
        of_epoch = self._logged.of_epoch(trainer)
        if of_epoch is not None:
            history.append_metrics(*of_epoch)
        return of_epoch is not None

    def record_validation(
        self, trainer: AnyTrainer, history: History, validation: Validation, ours: Iterable[str]
    ) -> None:
        """Record the metrics of the user at a validation or test; `ours` are keys of callbacks."""
        metrics = self._logged.at_validation(trainer, validation)
        history.append_metrics(validation, {k: metrics[k] for k in metrics.keys() - set(ours)})

    def announce(
        self,
        trainer: AnyTrainer,
        results: Mapping[SampleSet, Sequence[LayerResult]],
        nbytes: Mapping[str, Mapping[str, int]],
        estimators: Sequence[str],
        n_keys: int,
    ) -> None:
        """Print the layers of the first measurement, and lay out TensorBoard's custom scalars."""
        for each, of_set in results.items():
            self._terminal.show_plan(trainer, plan_table(of_set, each.name, nbytes[each.name]))
        if self._charts is not None and trainer.is_global_zero:
            layers = {
                each.key_prefix: list(key_names([result.layer for result in of_set]).values())
                for each, of_set in results.items()
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
        history: History,
        moment: Moment,
        metrics: Mapping[str, float],
        elapsed: float,
    ) -> None:
        """Log, write, print and draw a measurement."""
        if moment.logs_directly and trainer.is_global_zero and not is_fast_dev_run(trainer):
            for logger in trainer.loggers:
                with self._guard(f"log to {type(logger).__name__}"):
                    logger.log_metrics(dict(metrics), step=moment.validation[2])
        self.save(trainer, history)
        self._print(trainer, history, moment, metrics)
        self._draw(trainer, history, elapsed, moment.validation[0] in ("validate", "test"))

    def at_train_end(self, trainer: AnyTrainer, history: History, elapsed: float) -> None:
        """Record the metrics of the last epoch, and draw the final figures."""
        self.record_epoch(trainer, history)
        with self._guard("draw the figures"):
            self._draw(trainer, history, elapsed, is_last=True)

    def at_fit_end(self, trainer: AnyTrainer, history: History) -> None:
        """Print the summary table below the bar, and the folder of the history."""
        with self._guard("print the table"):
            self._terminal.at_end(trainer, history)
            if self._folder is not None:
                show_where(trainer, self._folder)

    def at_teardown(self, trainer: AnyTrainer, history: History) -> None:
        """Print the summary table of a validation or test below its bar."""
        with self._guard("print the table"):
            if self._table_is_due:
                self._table_is_due = False
                self._terminal.at_end(trainer, history)
        self.release()

    def release(self) -> None:
        """Remove the table below the progress bar. Idempotent; safe to call at any point."""
        self._terminal.release()

    def save(self, trainer: AnyTrainer, history: History) -> None:
        """Append the new records to the files in the folder of the run."""
        folder = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.loggers:
            self._failures.report_once(
                "No logger, no history.csv: callback.history holds all that is measured, and"
                " callback.history.save(folder) writes it",
                emit=rank_zero_info,
            )
        elif folder is not None and trainer.is_global_zero and not is_fast_dev_run(trainer):
            self._folder = folder_of(folder, self._prefix)
            history.save(self._folder, *self._written)
            self._written = len(history.records), len(history.metrics)

    def _draw(self, trainer: AnyTrainer, history: History, elapsed: float, is_last: bool) -> None:
        folder = trainer.log_dir  # on every rank: it is broadcast
        if self._charts is not None and trainer.is_global_zero and not is_fast_dev_run(trainer):
            step = logger_step(trainer)
            self._charts.draw(history, trainer.loggers, step, folder, elapsed, is_last)

    def _print(
        self,
        trainer: AnyTrainer,
        history: History,
        moment: Moment,
        metrics: Mapping[str, float],
    ) -> None:
        shown = {key: float(value) for key, value in trainer.callback_metrics.items()}
        shown |= metrics
        stage = moment.validation[0]
        if stage == BEFORE_TRAINING:
            self._terminal.after_validation(trainer, history, shown, "before training")
        elif stage != "fit":
            self._table_is_due = True
        elif not moment.logs_directly:  # there may be very many between steps
            self._terminal.after_validation(trainer, history, shown, epoch_name(trainer))

    def _guard(self, action: str) -> AbstractContextManager[None]:
        return self._failures.guard(action, self.release)
