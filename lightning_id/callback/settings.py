"""Settings that all measurements of a callback or monitor share: its arguments, checked.

Before a fit, invalid configurations raise, and questionable ones give a warning.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from torch import nn
from torch.utils.data import Dataset

from lightning_id._checks import class_given, positive, whole_number
from lightning_id.callback.schedule import EveryNValidations, Schedule
from lightning_id.callback.trainers import AnyTrainer, callbacks_of
from lightning_id.functional.geometry import MIN_DISTINCT
from lightning_id.recording.layers import (
    INPUT,
    LAST_HIDDEN,
    is_automatic,
    is_named,
    select_layer,
    select_layers,
)
from lightning_id.recording.measurement import Options
from lightning_id.recording.modules import device_of
from lightning_id.recording.processes import Processes
from lightning_id.recording.rule import Reduce, RowRule, RowsPerSample
from lightning_id.recording.storage import Limits, free_memory

WHY = "TwoNN needs a sample and its two nearest neighbours"
SMALLEST_CLASS = 100  # samples: below, the error bar of one class is above 10 %

OfTheFit = Literal["val", "train"]
Data = Sequence[OfTheFit] | Mapping[str, Iterable[Any] | OfTheFit]

VAL, TRAIN = get_args(OfTheFit)
TEST = "test"


@dataclass(frozen=True, eq=False)  # a loader need not be hashable
class SampleSet:
    """A set of samples that is measured separately."""

    name: str  # in the column ``data`` of a history
    loader: Iterable[Any] | OfTheFit
    key_prefix: str = ""  # of its logged keys


@dataclass
class Settings:
    """The samples and layers of every measurement: arguments that callback and monitor share."""

    layers: str | list[str] | dict[str, str] = "auto"
    n_samples: int = 2000
    seed: int | None = 0
    reduce: Reduce = "flatten"
    sample_dim: int | Mapping[str, int] | None = None
    rows_per_sample: RowsPerSample = 1
    mask_key: str | int | None = None
    per_class: bool | int = False
    max_features: int | None = None
    memory_limit: int | float | Literal["auto"] | None = "auto"
    last_hidden: str | None = None
    positions: Sequence[int] | None = None
    tokens_per_sample: int | None = None
    options: Options = field(init=False)

    def __post_init__(self) -> None:
        """Check the arguments, and make the options of a measurement from them."""
        self.n_samples = whole_number("n_samples", self.n_samples, MIN_DISTINCT, WHY)
        self.seed = None if self.seed is None else whole_number("seed", self.seed, least=0)
        smallest_class = limit = None
        if self.per_class is not False:
            least = SMALLEST_CLASS if self.per_class is True else self.per_class
            smallest_class = whole_number("per_class", least, MIN_DISTINCT, WHY)
        if self.memory_limit is not None and self.memory_limit != "auto":
            limit = int(positive("memory_limit", self.memory_limit, "GiB") * 2**30)
        self.options = Options(
            rule=RowRule(
                self.reduce,
                self.sample_dim,
                self.max_features,
                self.seed or 0,
                self.rows_per_sample,
                self.positions,
                self.tokens_per_sample,
            ),
            mask_key=self.mask_key,
            smallest_class=smallest_class,
            limits=Limits(limit, limit),
            is_limit_free=self.memory_limit == "auto",
            may_project=is_automatic(self.layers) and self.memory_limit == "auto",
            is_input_named=is_named(INPUT, self.layers),
        )

    def select(self, module: nn.Module) -> tuple[dict[str, str], str | None]:
        """Return the layers with the names they are shown under, and the last hidden one."""
        names = select_layers(module, self.layers)
        if self.last_hidden is None:
            return names, None
        last = select_layer(module, "last_hidden", self.last_hidden)
        names.pop(LAST_HIDDEN, None)
        return names, names.setdefault(last, last)

    def options_of(self, module: nn.Module, processes: Processes) -> Options:
        """Return the options of a measurement, with the free memory where that is the limit."""
        if not self.options.is_limit_free:
            return self.options
        return replace(self.options, limits=free_memory(device_of(module), processes))


@dataclass
class CallbackSettings(Settings):
    """The settings of a callback: also its sample sets, and the number of the loader."""

    data: Data = (VAL,)
    probe: Iterable[Any] | OfTheFit | None = None
    dataloader_idx: int = 0
    sets: list[SampleSet] = field(init=False)

    def __post_init__(self) -> None:
        """Check the arguments, and make the sample sets from them."""
        super().__post_init__()
        self.dataloader_idx = whole_number("dataloader_idx", self.dataloader_idx, least=0)
        self.sets = sample_sets(self.data) if self.probe is None else sets_of_probe(self.probe)

    def sets_of_stage(self, stage: str) -> list[SampleSet]:
        """Return the sets of a stage: all in a fit, else the one that is validated or tested."""
        if stage == "fit":
            return self.sets
        name = TEST if stage == "test" else VAL
        return [each for each in self.sets if each.name == name] or [SampleSet(name, VAL)]


def sample_sets(data: Data) -> list[SampleSet]:
    """Return the sample sets of the argument ``data``; keys of the first have no prefix."""
    if isinstance(data, str) or not isinstance(data, Sequence | Mapping) or not data:
        raise ValueError(
            f"`data`: expected a list of 'val' and 'train', or names and loaders, got {data!r}"
        )
    loaders = dict(data) if isinstance(data, Mapping) else {name: name for name in data}
    if len(loaders) < len(data):
        raise ValueError(f"`data`: expected every set once, got {data!r}")
    for name, loader in loaders.items():
        _check_set(name, loader)
    first = next(iter(loaders))
    return [
        SampleSet(name, loader, "" if name == first else f"{name}_")
        for name, loader in loaders.items()
    ]


def sets_of_probe(probe: Iterable[Any] | OfTheFit) -> list[SampleSet]:
    """Return the sample set of the deprecated argument ``probe``, with a warning."""
    new = f"data=[{probe!r}]" if isinstance(probe, str) else "data={'probe': loader}"
    warnings.warn(
        f"`probe` is deprecated and will be removed in the next release; use {new}",
        FutureWarning,
        stacklevel=5,
    )
    return sample_sets({probe if isinstance(probe, str) else "probe": probe})


def _check_set(name: object, loader: object) -> None:
    """Raise for a name that keys cannot hold or a set of the Trainer has, and for no loader."""
    if isinstance(loader, type):
        raise ValueError(class_given("data", loader))
    if isinstance(loader, str | Dataset) and loader not in (VAL, TRAIN):
        raise ValueError(
            f"`data`: expected a DataLoader, 'train' or 'val', got {loader!r}; DataLoader(...)"
            " makes one of a data set"
        )
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"`data`: expected names of letters, digits and underscores, got {name!r}")
    if name in (VAL, TRAIN, TEST) and name != loader:
        raise ValueError(
            f"`data`: expected another name than {name!r}, which is that of a set of the Trainer"
        )


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


def check_layers(settings: Settings, module: nn.Module) -> None:
    """Raise for a name of a layer that does not exist, or a rule for one that is not measured."""
    names, _ = settings.select(module)
    known = {*names.values(), INPUT, LAST_HIDDEN}
    for argument in ("sample_dim", "rows_per_sample"):
        value = getattr(settings, argument)
        unknown = sorted(value.keys() - known) if isinstance(value, Mapping) else []
        if unknown:
            raise ValueError(
                f"`{argument}`: expected names of measured layers, got {', '.join(unknown)};"
                f" they are shown as {', '.join(sorted(known))}"
            )


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
