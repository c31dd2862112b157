import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from lightning_id import IntrinsicDimensionCallback
from tests.toys import Toy, fitted, loader, state_of


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """Folder with the full MNIST as torchvision lays it out."""
    root = os.environ.get("LIGHTNING_ID_DATA")
    if not root:
        pytest.skip("LIGHTNING_ID_DATA names no folder with the full MNIST")
    return Path(root)


@dataclass
class DefaultFit:
    """A fit of the toy with a default callback, for tests that only read it.

    Attributes:
        callback: Of 40 of the 60 validation samples.
        runner: The Trainer, after three epochs and a whole sanity check.
        model: The trained module.
        fresh: An equal module before training.
        state: Its weights, the state of the optimiser and of the random numbers after the fit.
        logged: The messages that were logged.
        board: The folder of the TensorBoardLogger, that of the run.
        table: The file of the CSVLogger.
    """

    callback: IntrinsicDimensionCallback
    runner: pl.Trainer
    model: Toy
    fresh: Toy
    state: list[torch.Tensor]
    logged: list[str]
    board: Path
    table: Path


@pytest.fixture(scope="session")
def default_fit(tmp_path_factory: pytest.TempPathFactory) -> DefaultFit:
    """The one fit with TensorBoard, CSV and a whole sanity check that serves all who read it."""
    folder = tmp_path_factory.mktemp("default_fit")
    pl.seed_everything(1, verbose=False)
    fresh = Toy()
    callback = IntrinsicDimensionCallback(n_samples=40)
    loggers = [
        pl.loggers.TensorBoardLogger(folder, "tb"),
        pl.loggers.CSVLogger(folder, "csv"),
    ]
    pl.seed_everything(1, verbose=False)
    model = Toy()
    with messages() as logged:
        runner = fitted(
            folder,
            callback,
            model=model,
            train=loader(shuffle=True),
            logger=loggers,
            max_epochs=3,
            num_sanity_val_steps=-1,
        )
    board, table = Path(loggers[0].log_dir), Path(loggers[1].log_dir, "metrics.csv")
    state = state_of(model, runner)
    return DefaultFit(callback, runner, model, fresh, state, logged, board, table)


@contextmanager
def messages() -> Iterator[list[str]]:
    """Collect the messages that Lightning's loggers of Python are given."""
    found: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Keeping()
    names = ("pytorch_lightning", "lightning.pytorch")
    for name in names:
        logging.getLogger(name).addHandler(handler)
    try:
        yield found
    finally:
        for name in names:
            logging.getLogger(name).removeHandler(handler)
