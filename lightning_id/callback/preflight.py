"""Checks before a fit: invalid configurations raise, questionable ones give a warning."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lightning_id._checks import class_given
from lightning_id.callback.schedule import EveryNValidations, Schedule
from lightning_id.callback.settings import CallbackSettings
from lightning_id.callback.trainers import (
    AnyModule,
    AnyTrainer,
    callbacks_of,
    measured_loader,
)
from lightning_id.recording.layers import INPUT, LAST_HIDDEN


class InstanceProperty(property):
    """Property that raises for the class: a Trainer reads it of each of its callbacks."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None and owner is not None:
            raise AttributeError(class_given("callbacks", owner))
        return super().__get__(instance, owner)


def check_arguments(
    estimators: object, schedule: object, last_hidden: object, prefix: object
) -> None:
    """Raise for arguments of a wrong type."""
    if isinstance(estimators, str) or not isinstance(estimators, Sequence):
        raise ValueError(f"`estimators`: expected a list of names, got {estimators!r}")
    if isinstance(schedule, type):
        raise ValueError(class_given("schedule", schedule))
    if schedule is not None and not isinstance(schedule, Schedule):
        raise ValueError(f"`schedule`: expected a Schedule or None, got {schedule!r}")
    if last_hidden is not None and not isinstance(last_hidden, str):
        raise ValueError(f"`last_hidden`: expected a name or None, got {last_hidden!r}")
    if not isinstance(prefix, str):
        raise ValueError(f"`prefix`: expected a string, got {prefix!r}")


def check_prefixes(prefix: str, prefixes: Iterable[str]) -> None:
    """Raise if two callbacks of a Trainer have this prefix: their keys would be equal."""
    if list(prefixes).count(prefix) > 1:
        raise ValueError(
            f"`prefix`: expected one for each callback of a Trainer, got {prefix!r} twice;"
            " they would log under the same keys"
        )


def check_names(argument: str, value: object, shown: Iterable[str]) -> None:
    """Raise if an argument that maps layers to values names a layer that is not measured."""
    known = {*shown, INPUT, LAST_HIDDEN}
    unknown = sorted(value.keys() - known) if isinstance(value, Mapping) else []
    if unknown:
        raise ValueError(
            f"`{argument}`: expected names of measured layers, got {', '.join(unknown)};"
            f" they are shown as {', '.join(sorted(known))}"
        )


def check_layers(settings: CallbackSettings, module: AnyModule) -> None:
    """Raise for a name of a layer that does not exist, or a rule for one that is not measured."""
    names, _ = settings.select(module)
    rule = settings.options.rule
    check_names("sample_dim", rule.sample_dim, names.values())
    check_names("rows_per_sample", rule.rows_per_sample, names.values())


def check_loader(trainer: AnyTrainer, dataloader_idx: int) -> None:
    """Raise if a fit, once it has its validation loaders, has none of this number."""
    if trainer.val_dataloaders is not None:
        measured_loader(trainer, dataloader_idx)


def configuration_warnings(
    trainer: AnyTrainer, schedule: Schedule, prefix: str, max_overhead: float | None
) -> Iterator[str]:
    """Yield a warning if nothing is measured, and for monitors that read no new value each time."""
    if not schedule.has_steps and not trainer.enable_validation:
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
            advice = (
                "between measurements it reads the old value again, and its patience counts that."
                " Measure at every validation, or raise the patience."
                if schedule.has_validations
                else "it never reads measurements made between steps. Measure at validations."
            )
            yield (
                f"{type(callback).__name__} monitors {monitor!r}, which is not measured at every"
                f" validation ({schedule}{limit}): {advice}"
            )
