"""A measurement of the batches of a loader, without a Trainer."""

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_id.callback.settings import Settings
from lightning_id.functional import twonn_dimension
from lightning_id.recording.measurement import Measurement
from lightning_id.recording.plan import Plan
from lightning_id.recording.processes import SingleProcess
from lightning_id.recording.samples import samples_of


class Measured(NamedTuple):
    """TwoNN by layer, in the order of execution; `classes` by layer and label."""

    records: dict[str, dict[str, Any]]
    classes: dict[tuple[str, str], dict[str, Any]]
    remarks: dict[str, list[str]]  # which the callback warns of
    plan: Plan


class Runs(nn.Module):
    """Runs a network on every batch and does nothing with its output."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.net(batch)


def measure(
    model: nn.Module,
    loader: DataLoader,
    layers: Any = "auto",
    plan: Plan | None = None,
    **options: Any,
) -> Measured:
    """Measure a module with a validation step by options of the callback."""
    settings = Settings(layers, memory_limit=None, **options)
    names, last_hidden = settings.select(model)
    measurement = Measurement(
        model,
        names,
        samples_of(loader, math.inf, settings.n_samples, settings.seed),
        settings.options_of(model, SingleProcess()),
        plan,
        last_hidden=last_hidden,
    )
    model.eval()
    with torch.no_grad():
        for index, batch in enumerate(loader):
            measurement.begin_batch(batch)
            model.validation_step(batch, index)
            measurement.end_batch()
    results = list(measurement.results({"twonn": twonn_dimension}))
    found = [fields for result in results for fields in result.records()]
    return Measured(
        {fields["layer"]: fields for fields in found if "label" not in fields},
        {(fields["layer"], fields["label"]): fields for fields in found if "label" in fields},
        {result.layer: list(result.remarks()) for result in results},
        measurement.plan,
    )
