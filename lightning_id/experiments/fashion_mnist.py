"""Fashion-MNIST as a LightningDataModule, held in memory."""

import os
from pathlib import Path

from torch import Tensor
from torchvision.datasets import FashionMNIST

from lightning_id.experiments.mnist import LabelledImages, MNISTDataModule
from lightning_id.experiments.sources import ROOT_VARIABLE, cache_folder

PIXEL_MEAN, PIXEL_STD = 0.2860, 0.3530  # of the 60000 training images, pixels in [0, 1]


class FashionMNISTDataModule(MNISTDataModule):
    """Pieces of clothing: normalised images `(b, 1, 28, 28)`, float32, with labels `(b,)`.

    They are read from `FashionMNIST/raw` in `root`, else in `LIGHTNING_ID_DATA`, else they are
    downloaded by torchvision into the cache folder. The validation (and test) set is its test set.

    Args:
        **kwargs: See `MNISTDataModule`.
    """

    def prepare_data(self) -> None:
        """Download the images, if they are not there."""
        if self.val_set is None:
            self._dataset(train=True)

    def _make_set(self, train: bool) -> LabelledImages:
        return LabelledImages(*self._read(train), PIXEL_MEAN, PIXEL_STD)

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        dataset = self._dataset(train)
        n = self.n_train if train else self.n_val
        self._n_read[train] = len(dataset.targets[:n])
        return dataset.data[:n], dataset.targets[:n]

    def _dataset(self, train: bool) -> FashionMNIST:
        given = self.root or os.environ.get(ROOT_VARIABLE)
        folder = Path(given).expanduser() if given else cache_folder()
        is_there = (folder / "FashionMNIST" / "raw").is_dir()
        return FashionMNIST(str(folder), train=train, download=not is_there)
