"""A model and data of one's own: a perceptron over the 1797 digits of scikit-learn.

Nothing here knows of a study: `study.yaml` names the two classes.

    lightning-id study examples/study_your_own/study.yaml
"""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset


class Perceptron(pl.LightningModule):
    def __init__(self, width: int = 64, depth: int = 1, lr: float = 0.01):
        super().__init__()
        self.lr = lr
        layers: list[nn.Module] = []
        for inputs in [64, *[width] * (depth - 1)]:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(width, 10))

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch):
        images, labels = batch
        return cross_entropy(self(images), labels)

    def validation_step(self, batch):
        images, labels = batch
        accuracy = (self(images).argmax(1) == labels).float().mean()
        self.log("val_acc", accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.lr)


class Digits(pl.LightningDataModule):
    def __init__(self, label_noise: float = 0.0, batch_size: int = 64):
        super().__init__()
        self.label_noise = label_noise
        self.batch_size = batch_size

    def setup(self, stage):  # noqa: ARG002
        digits = load_digits()
        images = torch.tensor(digits.data / 16, dtype=torch.float32)
        labels = torch.tensor(digits.target)
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(labels), generator=generator)
        train, val = order[:1000], order[1000:]
        wrong = train[: round(self.label_noise * len(train))]
        labels[wrong] = torch.randint(10, wrong.shape, generator=generator)
        self.train_set = TensorDataset(images[train], labels[train])
        self.val_set = TensorDataset(images[val], labels[val])

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 256)
