"""Measure a network on images: the callback in ``Trainer.validate``."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_id.callback import IntrinsicDimensionCallback
from lightning_id.history import BEFORE_TRAINING, History
from lightning_id.history.queries import metric_values
from lightning_id.profile.images import Images, Prepared
from lightning_id.profile.networks import Network, load_network
from lightning_id.recording.layers import INPUT, LAST_HIDDEN, select_layers
from lightning_id.recording.rule import Reduce

ACCURACY = "val_acc"


@dataclass(frozen=True)
class Settings:
    """Arguments of the callback and of the evaluation; no number depends on the batch size."""

    layers: str | Sequence[str] = "auto"
    estimators: Sequence[str] = ("twonn", "pca")
    reduce: Reduce = "flatten"
    per_class: bool | int = False
    memory_limit: int | float | None = 4
    batch_size: int = 32
    seed: int = 0
    image_size: int | None = None  # that of the training, or 224


class Evaluation(LightningModule):
    """A network to validate, and its accuracy if the labels have as many classes as outputs."""

    def __init__(self, network: nn.Module, n_classes: int | None) -> None:
        super().__init__()
        self.network = network
        self.n_classes = n_classes

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:  # noqa: ARG002
        """Pass a batch of inputs, with or without labels, through the network."""
        outputs = self.network(batch[0])
        shape = outputs.shape if isinstance(outputs, Tensor) else ()
        if self.n_classes is not None and shape[1:] == (self.n_classes,):
            right = (outputs.argmax(1) == batch[1]).float().mean()
            self.log(ACCURACY, right, batch_size=len(batch[1]), prog_bar=True)


def profile(
    model: str,
    images: Images,
    settings: Settings,
    checkpoint: str | None = None,
    weights: str = "trained",
) -> History:
    """Load a network with trained, untrained or both weights and measure its layers."""
    history = History()
    for state, stage in (("untrained", BEFORE_TRAINING), ("trained", "validate")):
        if weights not in ("both", state):
            continue
        network = load_network(
            model, checkpoint, state == "untrained", settings.image_size, settings.seed
        )
        measured = measure(network, images, settings)
        for entry in (*measured.records, *measured.metrics):
            entry["stage"] = stage
        history.records += measured.records
        history.metrics += measured.metrics
        for data, spectra in measured.spectra_by_set.items():
            here = {place._replace(stage=stage): each for place, each in spectra.items()}
            history.spectra_by_set.setdefault(data, {}).update(here)
    return history


def measure(network: Network, images: Images, settings: Settings) -> History:
    """Measure every layer of a loaded network."""
    inputs = Prepared(images, network.transform)
    classes = images.classes
    evaluation = Evaluation(network.module, None if classes is None else len(classes))
    if settings.per_class is not False and classes is None:
        raise ValueError("`--per-class`: expected images with labels, got none; leave it out")
    _check_takes(network, inputs[0][0])
    try:
        chosen = select_layers(evaluation, settings.layers)
    except ValueError:
        select_layers(network.module, settings.layers)  # raises with the names without "network."
        raise
    callback = IntrinsicDimensionCallback(
        layers={name: _short(name) for name in chosen},
        estimators=settings.estimators,
        n_samples=len(inputs),
        reduce=settings.reduce,
        per_class=settings.per_class,
        memory_limit=settings.memory_limit,
    )
    trainer = Trainer(
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback, _Bar()],
    )
    with warnings.catch_warnings():
        # Reading photographs is a small part of the time, and the order must stay.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        # Lightning 2.6 on torch 2.14; no user can change it.
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.* is deprecated")
        trainer.validate(evaluation, DataLoader(inputs, settings.batch_size), verbose=False)
    for record in callback.history.records:
        if record["label"] is not None and classes is not None:
            record["label"] = classes[int(record["label"])]
    return callback.history


class _Bar(TQDMProgressBar):
    """The bar of the Trainer without tables; one is printed when both weights are measured."""

    prints_tables = False  # of the callback

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print nothing."""


def _check_takes(network: Network, example: Tensor) -> None:
    network.module.eval()
    try:
        with torch.inference_mode():
            network.module(example[None])
    except Exception as error:
        raise ValueError(
            f"{network.name} cannot take inputs of {(1, *example.shape)}: {error}. --image-size"
            " sets another size, and a .npy file gives inputs of any shape"
        ) from error


def _short(name: str) -> str:
    """Return the name of a layer within the network, unless a pseudo-layer has that name."""
    short = name.removeprefix("network.")
    return name if short in (INPUT, LAST_HIDDEN) else short


def accuracies(history: History) -> list[tuple[str, float]]:
    """Return stage and accuracy of each measurement that has one."""
    return [(v.stage, share) for v, share in metric_values(history, ACCURACY).items()]
