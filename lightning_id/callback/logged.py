"""The metrics that the user's code logs, each recorded once its value is final."""

from torch import Tensor

from lightning_id.callback.trainers import AnyTrainer, logger_step, training_names
from lightning_id.history import FIT, Validation


class LoggedMetrics:
    """Reads the metrics of validations and of training epochs from a Trainer.

    A validation runs within a training epoch: ``trainer.callback_metrics`` then holds the means of
    the epoch *before*, until Lightning reduces the new ones after ``on_train_epoch_end``. They are
    left out of a validation, and read between that hook and the next epoch. Call every method on
    all ranks: reading a metric may reduce it over them.
    """

    def __init__(self) -> None:
        self._past: dict[str, Tensor] = {}  # logged by the training up to the epoch before
        self._ended: Validation | None = None  # the training epoch whose metrics become final
        self._recorded: tuple[Validation | None, set[str]] = None, set()  # the last place, names

    def at_validation(self, trainer: AnyTrainer, place: Validation) -> dict[str, float]:
        """Return the final metrics of a validation or test, and of single training steps."""
        logged: dict[str, Tensor] = trainer.callback_metrics
        current = {
            name: value
            for name, value in logged.items()
            # Of a metric logged on step and epoch, the plain name will be the mean of the epoch.
            if value is not self._past.get(name) and value is not logged.get(f"{name}_step")
        }
        return self._record(place, current)

    def end_epoch(self, trainer: AnyTrainer) -> None:
        """Note that a training epoch ends: its metrics are final after this hook."""
        # Lightning logs them at the last step of the epoch, and its counter is one ahead here.
        self._ended = Validation(FIT, trainer.current_epoch, logger_step(trainer) - 1)

    def of_epoch(self, trainer: AnyTrainer) -> tuple[Validation, dict[str, float]] | None:
        """Return place and new metrics of the training epoch that ended; None before it has."""
        if self._ended is None:
            return None
        logged, names = trainer.callback_metrics, training_names(trainer)
        place, recorded = self._recorded
        current = {
            name: logged[name]
            for name in logged.keys() & names
            if logged[name] is not self._past.get(name)
            and not (place == self._ended and name in recorded)
        }
        return self._ended, self._record(self._ended, dict(sorted(current.items())))

    def begin_epoch(self, trainer: AnyTrainer) -> None:
        """Note that metrics logged by the training so far are of an epoch that is over."""
        logged = trainer.callback_metrics
        self._past = {name: logged[name] for name in logged.keys() & training_names(trainer)}
        self._ended = None

    def _record(self, place: Validation, metrics: dict[str, Tensor]) -> dict[str, float]:
        before, names = self._recorded
        self._recorded = place, (names if place == before else set()) | metrics.keys()
        return {name: float(value) for name, value in metrics.items()}
