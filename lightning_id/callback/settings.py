"""Settings that all measurements of a callback or monitor share: its arguments, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from lightning_id._checks import positive, whole_number
from lightning_id.callback.sets import SampleSet
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
from lightning_id.recording.memory import free_memory
from lightning_id.recording.modules import device_of
from lightning_id.recording.processes import Processes
from lightning_id.recording.rule import Reduce, RowRule, RowsPerSample
from lightning_id.recording.storage import Limits

WHY = "TwoNN needs a sample and its two nearest neighbours"
SMALLEST_CLASS = 100  # samples: below, the error bar of one class is above 10 %


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
            smallest_class=smallest_class(self.per_class),
            limits=row_limits(self.memory_limit),
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

    sets: Sequence[SampleSet] = ()
    dataloader_idx: int = 0


def row_limits(memory_limit: int | float | Literal["auto"] | None) -> Limits:
    """Return the limits in bytes; none yet for ``"auto"``."""
    if memory_limit is None or memory_limit == "auto":
        return Limits()
    limit = int(positive("memory_limit", memory_limit, "GiB") * 2**30)
    return Limits(limit, limit)


def smallest_class(per_class: bool | int) -> int | None:
    """Return the samples that a class must have to be measured; None for no classes."""
    if per_class is False:
        return None
    if per_class is True:
        return SMALLEST_CLASS
    return whole_number("per_class", per_class, MIN_DISTINCT, WHY)
