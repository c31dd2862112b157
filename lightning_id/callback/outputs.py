"""Outputs of a callback: history files, loggers, terminal, figures."""

from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from lightning_id.callback.charts import Charts, LayerCurves
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.running import Moment, RunningMeasurement
from lightning_id.callback.schedule import Budget
from lightning_id.callback.settings import SampleSet
from lightning_id.callback.terminal import Terminal, epoch_name, plan_table, show_where
from lightning_id.callback.trainers import AnyTrainer, logger_step, training_names, writes_files
from lightning_id.history import BEFORE_TRAINING, FIT, History, Validation, folder_of
from lightning_id.recording.layers import LAST_HIDDEN
from lightning_id.recording.results import LayerResult

MANY_KEYS = 200  # the most that one hosted tracker accepts in a request


@dataclass
class Outputs:
    """Writes, logs, prints and draws the history of one callback."""

    history: History
    prefix: str
    draws: bool
    draws_layers: bool
    budget: Budget
    failures: FailurePolicy
    _table_is_due: bool = False  # of a validation or test, printed when its bar is finished

    def __post_init__(self) -> None:
        """Make the outputs, and begin a fit."""
        self._terminal = Terminal(self.prefix)
        self._charts = Charts(self.prefix, self.failures) if self.draws else None
        self._curves = LayerCurves(self.prefix) if self.draws_layers else None
        self.start()

    def start(self) -> None:
        """Begin a fit, which writes files of its own."""
        self._written = 0, 0  # records and metrics in the files of this run
        self._folder: Path | None = None  # of the files of this run
        self.logged = LoggedMetrics(self.history)

    def begin_epoch(self, trainer: AnyTrainer) -> None:
        """Record and write the metrics of the training epoch before, which are final now."""
        with self._guard("write the history"):
            if self.logged.record_epoch(trainer):
                self._save(trainer)
        self.logged.begin_epoch(trainer)

    def after_unmeasured(
        self, trainer: AnyTrainer, validation: Validation, ours: Iterable[str]
    ) -> None:
        """Record and write the metrics of a validation of the fit that was not measured."""
        if not trainer.barebones and self.history.records:
            with self._guard("write the history"):
                self.logged.record_validation(trainer, validation, ours)
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
                self.failures.report_once(
                    f"no id/last_hidden: {reason}; last_hidden=... names a layer to take"
                )
        for each, results in running.results.items():
            self._terminal.show_plan(
                trainer, plan_table(results, each.name, running.nbytes[each.name])
            )
        if self._charts is not None and trainer.is_global_zero:
            theirs = [key for key in trainer.callback_metrics if key.startswith("val")]
            self._charts.lay_out(trainer.loggers, running.results, estimators, theirs)
        if n_keys > MANY_KEYS:
            self.failures.report_once(
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
                self.logged.record_validation(trainer, moment.validation, ours)
            if writes_files(trainer):
                step = moment.validation.step
                for logger in trainer.loggers if moment.logs_directly else ():
                    with self._guard(f"log to {type(logger).__name__}"):
                        logger.log_metrics(dict(metrics), step=step)
                if self._curves is not None:
                    with self._guard("write the curves of the layers"):
                        self._curves.write(trainer.loggers, results, step)
            self._save(trainer)
            self._print(trainer, moment, metrics)
            self._draw(trainer, is_last=moment.validation.stage in ("validate", "test"))

    def record_last(self, trainer: AnyTrainer) -> None:
        """Record and write the metrics of the last epoch, and the last spectra."""
        with self._guard("write the history"):
            has_spectra = self.history.solve_spectra()
            if self.logged.record_epoch(trainer) or has_spectra:
                self._save(trainer)

    def at_train_end(self, trainer: AnyTrainer) -> None:
        """Record all that is left, and draw the final figures."""
        self.record_last(trainer)
        with self._guard("draw the figures"):
            self._draw(trainer, is_last=True)

    def at_fit_end(self, trainer: AnyTrainer) -> None:
        """Print the summary table below the bar, and the folder of the history."""
        with self._guard("print the table"):
            self._terminal.at_end(trainer, self.history)
            if self._folder is not None:
                show_where(trainer, self._folder)

    def at_teardown(self, trainer: AnyTrainer) -> None:
        """Print the summary table of a validation or test below its bar."""
        with self._guard("print the table"):
            if self._table_is_due:
                self._table_is_due = False
                self._terminal.at_end(trainer, self.history)
        self.release()

    def release(self) -> None:
        """Remove the table below the progress bar, and close files. Idempotent."""
        self._terminal.release()
        if self._curves is not None:
            self._curves.close()

    def _save(self, trainer: AnyTrainer) -> None:
        """Append the new records to the files in the folder of the run."""
        folder = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.loggers:
            self.failures.report_once(
                "No logger, no history.csv: callback.history holds all measurements, and"
                " callback.history.save(folder) writes them",
                emit=rank_zero_info,
            )
        elif folder is not None and writes_files(trainer):
            self._folder = folder_of(folder, self.prefix)
            self.history.save(self._folder, *self._written)
            self._written = len(self.history.records), len(self.history.metrics)

    def _draw(self, trainer: AnyTrainer, is_last: bool) -> None:
        folder = trainer.log_dir  # on every rank: it is broadcast
        if self._charts is not None and writes_files(trainer):
            step, elapsed = logger_step(trainer), self.budget.elapsed
            self._charts.draw(self.history, trainer.loggers, step, folder, elapsed, is_last)

    def _print(self, trainer: AnyTrainer, moment: Moment, metrics: Mapping[str, float]) -> None:
        shown = {key: float(value) for key, value in trainer.callback_metrics.items()}
        shown |= metrics
        stage = moment.validation.stage
        if stage == BEFORE_TRAINING:
            self._terminal.after_validation(trainer, self.history, shown, "before training")
        elif stage != "fit":
            self._table_is_due = True
        elif not moment.logs_directly:  # there may be very many between steps
            self._terminal.after_validation(trainer, self.history, shown, epoch_name(trainer))

    def _guard(self, action: str) -> AbstractContextManager[None]:
        return self.failures.guard(action, self.release)


class LoggedMetrics:
    """Records the metrics that the user's code logs, each once its value is final.

    A validation runs within a training epoch: ``trainer.callback_metrics`` then holds the means of
    the epoch *before*, until Lightning reduces the new ones after ``on_train_epoch_end``. They are
    left out of a validation, and read between that hook and the next epoch. Call every method on
    all ranks: reading a metric may reduce it over them.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._past: dict[str, Tensor] = {}  # logged by the training up to the epoch before
        self._ended: Validation | None = None  # the training epoch whose metrics become final
        self._recorded: tuple[Validation | None, set[str]] = None, set()  # the last place, names

    def record_validation(
        self, trainer: AnyTrainer, place: Validation, ours: Iterable[str]
    ) -> None:
        """Record the final metrics of a validation or test, and of single training steps."""
        logged: dict[str, Tensor] = trainer.callback_metrics
        current = {
            name: value
            for name, value in logged.items()
            # Of a metric logged on step and epoch, the plain name will be the mean of the epoch.
            if value is not self._past.get(name) and value is not logged.get(f"{name}_step")
        }
        self._record(place, current, hidden=set(ours))  # keys of callbacks of this package

    def end_epoch(self, trainer: AnyTrainer) -> None:
        """Note that a training epoch ends: its metrics are final after this hook."""
        # Lightning logs them at the last step of the epoch, and its counter is one ahead here.
        self._ended = Validation(FIT, trainer.current_epoch, logger_step(trainer) - 1)

    def record_epoch(self, trainer: AnyTrainer) -> bool:
        """Record the metrics of the training epoch that ended; return whether there is one."""
        if trainer.barebones or not self._history.records or self._ended is None:
            return False
        logged, names = trainer.callback_metrics, training_names(trainer)
        place, recorded = self._recorded
        current = {
            name: logged[name]
            for name in logged.keys() & names
            if logged[name] is not self._past.get(name)
            and not (place == self._ended and name in recorded)
        }
        self._record(self._ended, dict(sorted(current.items())))
        return True

    def begin_epoch(self, trainer: AnyTrainer) -> None:
        """Note that metrics logged by the training so far are of an epoch that is over."""
        logged = trainer.callback_metrics
        self._past = {name: logged[name] for name in logged.keys() & training_names(trainer)}
        self._ended = None

    def _record(
        self, place: Validation, metrics: dict[str, Tensor], hidden: Container[str] = ()
    ) -> None:
        before, names = self._recorded
        self._recorded = place, (names if place == before else set()) | metrics.keys()
        values = {name: float(value) for name, value in metrics.items()}
        theirs = {name: value for name, value in values.items() if name not in hidden}
        self._history.append_metrics(place, theirs)
