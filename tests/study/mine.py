"""Somebody's module and data, which know of no study. Copied next to the YAML of the tests."""

import os
import signal
import time

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import LightningCLI
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset


class Net(LightningModule):
    def __init__(self, width: int = 8, lr: float = 0.1, end: str = "", wait: float = 0.0):
        super().__init__()
        self.lr, self.end, self.wait = lr, end, wait
        self.hidden = nn.Sequential(nn.Linear(6, width), nn.ReLU())
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.hidden(x))

    def training_step(self, batch, batch_idx):
        if self.end == "raise" and not self.trainer.fast_dev_run:
            raise RuntimeError("as asked")
        if self.end == "kill" and not self.trainer.fast_dev_run:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.wait)
        loss = cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self._log_accuracy(batch, "val")

    def test_step(self, batch, batch_idx):
        self._log_accuracy(batch, "test")

    def _log_accuracy(self, batch, stage):
        hits = self(batch[0]).argmax(1) == batch[1]
        self.log(f"{stage}_acc", hits.float().mean(), batch_size=len(hits))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)


class Blobs(LightningDataModule):
    def __init__(self, spread: float = 1.0, options: dict | None = None):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(3, (300,), generator=generator)
        x = torch.eye(6)[labels] + spread * torch.randn(300, 6, generator=generator)
        self.sets = [
            TensorDataset(x[a:b], labels[a:b]) for a, b in ((0, 150), (150, 250), (250, 300))
        ]

    def train_dataloader(self):
        return DataLoader(self.sets[0], 50, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.sets[1], 50)

    def test_dataloader(self):
        return DataLoader(self.sets[2], 50)


class MyCLI(LightningCLI):
    """Somebody's command line: fixed classes, an option of their own."""

    def __init__(self, **kwargs):
        super().__init__(Net, Blobs, **kwargs)

    def add_arguments_to_parser(self, parser):
        parser.add_argument("--scale", type=float, default=1.0)
        parser.link_arguments("scale", "data.spread")
