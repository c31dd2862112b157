"""What is checked of a fit before it begins: what must not be, and what would surprise."""

from collections.abc import Iterable, Iterator, Mapping

from lightning_id.callback.schedule import EveryNValidations, Schedule
from lightning_id.callback.trainers import AnyTrainer, callbacks_of, has_validation, measured_loader
from lightning_id.recording.layers import INPUT, LAST_HIDDEN


def check_prefixes(prefix: str, prefixes: Iterable[str]) -> None:
    """Refuse two callbacks that would log and write under the same names.

    Args:
        prefix: That of one.
        prefixes: Those of all in the Trainer.

    Raises:
        ValueError: If there is another one of that prefix.
    """
    if list(prefixes).count(prefix) > 1:
        raise ValueError(
            f"`prefix`: expected one for each callback of a Trainer, got {prefix!r} twice;"
            " they would log under the same keys"
        )


def check_names(argument: str, value: object, shown: Iterable[str]) -> None:
    """Refuse a rule for a layer that is not measured: it may be misspelt.

    Args:
        argument: The name of the argument.
        value: One rule for all layers, or rules by name.
        shown: Names of the measured layers.

    Raises:
        ValueError: If a name is none of them.
    """
    known = {*shown, INPUT, LAST_HIDDEN}
    unknown = sorted(value.keys() - known) if isinstance(value, Mapping) else []
    if unknown:
        raise ValueError(
            f"`{argument}`: expected names of measured layers, got {', '.join(unknown)};"
            f" they are shown as {', '.join(sorted(known))}"
        )


def check_loader(trainer: AnyTrainer, dataloader_idx: int) -> None:
    """Refuse the number of a validation loader that a fit has not, once it has its loaders.

    Args:
        trainer: About to train.
        dataloader_idx: The loader that is measured.

    Raises:
        ValueError: If there is none of this number.
    """
    if trainer.val_dataloaders is not None:
        measured_loader(trainer, dataloader_idx)


def configuration_warnings(
    trainer: AnyTrainer, schedule: Schedule, prefix: str, max_overhead: float | None
) -> Iterator[str]:
    """Say what a user of this schedule may not expect.

    Args:
        trainer: About to fit.
        schedule: When it is measured.
        prefix: Put before every logged key.
        max_overhead: The share of the time above which a validation is not measured; None for none.

    Yields:
        That nothing is measured, because nothing is validated; that a monitor reads one measurement
        again and again, or none.
    """
    if not schedule.has_steps and not has_validation(trainer):
        yield (
            f"nothing is measured: {schedule} waits for validations, and this fit has none (no"
            " validation_step, no loader, or limit_val_batches=0); schedule=LogSpaced(),"
            " data=['train'] measures without"
        )
    if schedule == EveryNValidations(1) and max_overhead is None:
        return
    limit = "" if max_overhead is None else f", max_overhead={max_overhead:g}"
    for callback in callbacks_of(trainer):
        monitor = getattr(callback, "monitor", None) or ""
        if monitor.startswith((f"{prefix}id/", f"{prefix}id_")):
            then = (
                "in between it sees the last value again, and its patience counts that. Measure"
                " every validation, or raise the patience."
                if schedule.has_validations
                else "what is measured between steps it never sees. Measure at validations."
            )
            yield (
                f"{type(callback).__name__} monitors {monitor!r}, which is not measured at every"
                f" validation ({schedule}{limit}): {then}"
            )
