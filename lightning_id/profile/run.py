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
from lightning_id.layers import INPUT, LAST_HIDDEN, select_layers
from lightning_id.profile.images import Pictures
from lightning_id.profile.networks import Network, load_network
from lightning_id.rows import Reduce

ACCURACY = "val_acc"


@dataclass(frozen=True)
class Settings:
    """What is measured: see `lightning_id.IntrinsicDimensionCallback`.

    Attributes:
        layers: Which layers.
        estimators: Which dimensions.
        reduce: How maps and tokens become rows.
        per_class: Whether classes are measured by themselves, or of how many samples on.
        memory_limit: GiB of rows in memory; what is more goes to a temporary file.
        batch_size: Images that pass through the network at a time; no number depends on it.
        seed: Of the weights of an untrained network.
        image_size: Pixels of the square input; None for what the network was trained on, or 224.
    """

    layers: str | Sequence[str] = "auto"
    estimators: Sequence[str] = ("twonn", "pca")
    reduce: Reduce = "flatten"
    per_class: bool | int = False
    memory_limit: int | float | None = 4
    batch_size: int = 32
    seed: int = 0
    image_size: int | None = None


class Evaluation(LightningModule):
    """What the Trainer validates: a network, and its accuracy where labels fit its output.

    Args:
        network: The network.
        n_classes: Classes of the labels; None if there are none.
    """

    def __init__(self, network: nn.Module, n_classes: int | None) -> None:
        super().__init__()
        self.network = network
        self.n_classes = n_classes

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:  # noqa: ARG002
        """Pass a batch of inputs, with or without labels, through the network."""
        outputs = self.network(batch[0])
        if self.n_classes is not None and _shape(outputs)[1:] == (self.n_classes,):
            right = (outputs.argmax(1) == batch[1]).float().mean()
            self.log(ACCURACY, right, batch_size=len(batch[1]), prog_bar=True)


def profile(
    model: str,
    pictures: Pictures,
    settings: Settings | None = None,
    checkpoint: str | None = None,
    weights: str = "trained",
) -> History:
    """Measure every layer of a network.

    Args:
        model: See `lightning_id.profile.networks.load_network`.
        pictures: The images.
        settings: What is measured.
        checkpoint: Weights for the network.
        weights: ``"trained"``, ``"untrained"`` or ``"both"``, the untrained network first. It is in
            the history as the network before training.

    Returns:
        What was measured.
    """
    settings = settings or Settings()
    history = History()
    for untrained in (True, False):
        if weights not in ("both", "untrained" if untrained else "trained"):
            continue
        network = load_network(model, checkpoint, untrained, settings.image_size, settings.seed)
        measured = measure(network, pictures, settings)
        if untrained:
            _rename_stage(measured, BEFORE_TRAINING)
        history.records += measured.records
        history.metrics += measured.metrics
        history.spectra |= measured.spectra
    return history


def measure(network: Network, pictures: Pictures, settings: Settings) -> History:
    """Measure every layer of a network that is at hand.

    Args:
        network: The network and its preprocessing.
        pictures: The images.
        settings: What is measured.

    Returns:
        What was measured; layers are called as in the network, classes as in the data.

    Raises:
        ValueError: If the network cannot take such inputs, or there are classes to be measured and
            no labels.
    """
    inputs = pictures.prepared(network.transform)
    classes = pictures.classes
    evaluation = Evaluation(network.module, None if classes is None else len(classes))
    if settings.per_class is not False and classes is None:
        raise ValueError("`--per-class`: expected images with labels, got none; leave it out")
    _check_takes(network, inputs[0][0])
    try:
        chosen = select_layers(evaluation, settings.layers)
    except ValueError:
        select_layers(network.module, settings.layers)  # the same, with the names as they are there
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
        # Lightning 2.6 on torch 2.14: nothing that whoever runs the command could change.
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.* is deprecated")
        trainer.validate(evaluation, DataLoader(inputs, settings.batch_size), verbose=False)
    for record in callback.history.records:
        if record["label"] is not None and classes is not None:
            record["label"] = classes[int(record["label"])]
    return callback.history


class _Bar(TQDMProgressBar):
    """The bar of the Trainer; the table comes when all networks are measured, with both weights."""

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing."""


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
    """Return the name of a layer as it is in the network, unless a pseudo-layer is called so."""
    short = name.removeprefix("network.")
    return name if short in (INPUT, LAST_HIDDEN) else short


def _shape(outputs: Any) -> tuple[int, ...]:
    return tuple(outputs.shape) if isinstance(outputs, Tensor) else ()


def _rename_stage(history: History, stage: str) -> None:
    for record in (*history.records, *history.metrics):
        record["stage"] = stage
    history.spectra = {(stage, *place[1:]): held for place, held in history.spectra.items()}
