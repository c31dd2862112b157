"""Variants of MNIST: random luminance and shuffled labels (Ansuini et al. 2019), label noise."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_id.experiments.mnist import Batch, LabelledImages, MNISTDataModule


class ShuffledMNIST(MNISTDataModule):
    """MNIST-dagger: the labels of the training images, permuted once. They can only be memorised.

    The validation set keeps its labels, so that `val_acc` is that of chance. (In the paper
    the labels of the test set are random too.)

    Args:
        label_seed: Seed of the private generator that permutes.
        **kwargs: See `MNISTDataModule`.
    """

    def __init__(self, label_seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.label_seed = label_seed

    def _make_set(self, train: bool) -> LabelledImages:
        images, labels = self._read(train)
        if train:
            generator = torch.Generator().manual_seed(self.label_seed)
            labels = labels[torch.randperm(len(labels), generator=generator)]
        return LabelledImages(images, labels)


class LuminanceMNIST(MNISTDataModule):
    """MNIST*: to all pixels of an image, in [0, 1], one random number up to `offset` is added.

    As in the paper, each split is then brought to [0, 1] by its own least and largest pixel,
    and both are standardised by mean and deviation of the training pixels. With an offset of 1000
    the digits are a thousandth of the range: the luminance is nearly all there is to see, one
    direction that holds nearly all the variance.

    The random numbers are drawn once, by a private generator, and are the same for every offset.
    Where there are fewer training digits than `n_train`, they are repeated up to `n_train` images,
    each time with another random number, and a warning counts the digits.

    Args:
        offsets: The largest number that is added, epoch by epoch; the last one holds for all later
            epochs and, throughout, for the validation set. More than one needs
            `Trainer(reload_dataloaders_every_n_epochs=1)`.
        offset_seed: Seed of the private generators, one for each split.
        **kwargs: See `MNISTDataModule`.

    Raises:
        ValueError: If there is no offset, or one that is not positive.
    """

    def __init__(
        self, offsets: Sequence[int | float] = (1000,), offset_seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not offsets or min(offsets) <= 0:
            raise ValueError(f"`offsets`: expected one positive number or more, got {offsets}")
        self.offsets = list(offsets)
        self.offset_seed = offset_seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the shuffled training batches, with the offset of the epoch.

        Returns:
            The loader.

        Raises:
            RuntimeError: If the offsets change and the trainer would ask for batches only once.
        """
        if self.trainer is not None and len(self.offsets) > 1:
            reload: int = self.trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
            if reload != 1:
                raise RuntimeError(
                    f"The offset changes from epoch to epoch ({self.offsets}): expected a trainer"
                    " with reload_dataloaders_every_n_epochs=1, which asks for the batches of every"
                    f" epoch, got {reload}. Set it to 1, or give one offset."
                )
            epoch = min(self.trainer.current_epoch, len(self.offsets) - 1)
            self.train_set = self._training_set(self.offsets[epoch])
        return super().train_dataloader()

    def _make_set(self, train: bool) -> LabelledImages:
        offset = self.offsets[-1]
        if train:
            return self._training_set(offset)
        # A validation without training reads the training images too, for mean and deviation.
        std, mean = torch.std_mean(self._brightened(train=True, offset=offset)[0])
        pixels, labels = self._brightened(train=False, offset=offset)
        return LabelledImages(pixels, labels, float(mean), float(std), white=1)

    def _training_set(self, offset: int | float) -> LabelledImages:
        pixels, labels = self._brightened(train=True, offset=offset)
        std, mean = torch.std_mean(pixels)
        return LabelledImages(pixels, labels, float(mean), float(std), white=1)

    def _brightened(self, train: bool, offset: int | float) -> tuple[Tensor, Tensor]:
        """Return the pixels of a split, float32 `(n, 28, 28)` in [0, 1], and its labels."""
        images, labels = self._read(train)
        if train and self.n_train is not None:
            again = torch.arange(self.n_train) % len(labels)
            images, labels = images[again], labels[again]
        generator = torch.Generator().manual_seed(2 * self.offset_seed + train)
        luminance = offset * torch.rand(len(images), generator=generator)
        pixels = images.float().div_(255).add_(luminance[:, None, None])
        low, high = pixels.aminmax()
        return pixels.sub_(low).div_(high - low), labels


class NoisyMNIST(MNISTDataModule):
    """A random part of the training images, a share of whose labels is permuted.

    A smaller part is the beginning of a larger one of the same seed. The validation set is MNIST's
    test set.

    Args:
        label_noise: Share of the labels that is permuted; of ten equally frequent classes nine
            tenths of it are wrong afterwards.
        data_seed: Seed of the private generators that choose images and labels.
        **kwargs: See `MNISTDataModule`; of `n_train` and `n_val` images the first are random ones.

    Raises:
        ValueError: If `label_noise` is no share.
    """

    def __init__(self, label_noise: int | float = 0.0, data_seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= label_noise <= 1:
            raise ValueError(f"`label_noise`: expected a share in [0, 1], got {label_noise}")
        self.label_noise = label_noise
        self.data_seed = data_seed

    def _make_set(self, train: bool) -> LabelledImages:
        if not train:
            return super()._make_set(train)
        n_train, self.n_train = self.n_train, None
        images, labels = self._read(train)
        self.n_train = n_train
        generator = torch.Generator().manual_seed(self.data_seed)
        chosen = torch.randperm(len(labels), generator=generator)[:n_train]
        self._n_read[train] = len(chosen)
        noisy = permute_labels(labels[chosen], self.label_noise, self.data_seed)
        return LabelledImages(images[chosen], noisy)


def permute_labels(
    labels: Int64[Tensor, " n"], share: int | float, seed: int
) -> Int64[Tensor, " n"]:
    """Return the labels with a share of them permuted among themselves.

    Example:
        >>> permute_labels(torch.arange(8), 0.5, seed=0).tolist()
        [7, 1, 2, 0, 3, 5, 6, 4]
    """
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    permuted = labels.clone()
    permuted[noisy] = labels[noisy[torch.randperm(len(noisy), generator=generator)]]
    return permuted
