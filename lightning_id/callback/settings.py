"""Settings that all measurements of a callback share, made from its arguments."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from lightning_id._checks import positive, whole_number
from lightning_id.callback.sets import SampleSet
from lightning_id.functional.geometry import MIN_DISTINCT
from lightning_id.recording.layers import (
    INPUT,
    LAST_HIDDEN,
    Layers,
    is_named,
    select_layer,
    select_layers,
)
from lightning_id.recording.measurement import Options
from lightning_id.recording.rule import RowRule
from lightning_id.recording.storage import Limits

WHY = "TwoNN needs a sample and its two nearest neighbours"
SMALLEST_CLASS = 100  # samples: below, the error bar of one class is above 10 %


@dataclass(frozen=True)
class Settings:
    """The samples and layers of every measurement; named as the arguments."""

    layers: str | list[str] | dict[str, str]
    last_hidden: str | None
    sets: list[SampleSet]
    n_samples: int
    seed: int | None
    dataloader_idx: int
    may_project: bool  # layers that exceed a limit of free memory
    options: Options

    def select(self, module: nn.Module) -> tuple[dict[str, str], str | None]:
        """Return the layers with the names they are shown under, and the last hidden one."""
        names = select_layers(module, self.layers)
        if self.last_hidden is None:
            return names, None
        last = select_layer(module, "last_hidden", self.last_hidden)
        names.pop(LAST_HIDDEN, None)
        return names, names.setdefault(last, last)


def row_options(
    rule: RowRule,
    layers: Layers,
    mask_key: str | int | None,
    per_class: bool | int,
    memory_limit: int | float | Literal["auto"] | None,
) -> Options:
    """Return the options of every measurement, from arguments of the callback."""
    return Options(
        rule=rule,
        mask_key=mask_key,
        smallest_class=smallest_class(per_class),
        limits=row_limits(memory_limit),
        is_limit_free=memory_limit == "auto",
        is_input_named=is_named(INPUT, layers),
    )


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
