"""What works without any extra: a training with the callback, and no picture.

    python tests/without_extras.py

In an environment with nothing but lightning-id. Not a test file: pytest brings packages of its own.
"""

import importlib.util
import sys
import tempfile

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_id import IntrinsicDimensionCallback, record_activations
from lightning_id.functional import twonn_dimension

EXTRAS = ["matplotlib", "tensorboard", "torchvision", "plotly", "jsonargparse", "pandas", "faiss"]


class Network(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))

    def training_step(self, batch):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch):
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def main():
    found = [name for name in EXTRAS if importlib.util.find_spec(name)]
    if found:
        sys.exit(f"expected an environment without extras, got {', '.join(found)}")
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(300, 20, generator=draw)
    data = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 50)
    callback = IntrinsicDimensionCallback(estimators=["twonn", "pca", "gride", "mle"])
    model = Network()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=2, callbacks=[callback], accelerator="cpu", default_root_dir=folder
        )
        trainer.fit(model, data, data)
    assert callback.last_metrics["id/last_hidden"] > 1
    with record_activations(model.net, ["1"], 300) as rows:
        model.net(x)
    print(f"TwoNN of the hidden layer: {twonn_dimension(rows['1']).value:.2f}")


if __name__ == "__main__":
    main()
