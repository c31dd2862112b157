"""MNIST with a LightningModule of your own and the callback, which is one line.

    python examples/mnist_in_40_lines.py

Data as for `make mnist`. The curves are in ``lightning_logs``.
"""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_id import IntrinsicDimensionCallback
from lightning_id.experiments.mnist import MNISTDataModule


class Network(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU())
        self.narrow = nn.Sequential(nn.Linear(256, 64), nn.ReLU())
        self.output = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.narrow(self.hidden(x)))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    trainer = pl.Trainer(
        max_epochs=3,
        callbacks=[IntrinsicDimensionCallback()],  # this line
        num_sanity_val_steps=-1,  # optional: measures the untrained network too
        accelerator="cpu",
    )
    trainer.fit(Network(), MNISTDataModule())
