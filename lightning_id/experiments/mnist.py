"""MNIST, usable on a machine without a network."""

from typing import Any

from lightning_id.experiments.images import PIXELS, Batch, ImageDataModule, LabelledImages

__all__ = ["PIXEL_MEAN", "PIXEL_STD", "Batch", "LabelledImages", "MNISTDataModule"]

PIXEL_MEAN, PIXEL_STD = PIXELS["MNIST"]


class MNISTDataModule(ImageDataModule):
    """Handwritten digits, `(b, 1, 28, 28)`: an `ImageDataModule` of MNIST, with its arguments."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name="MNIST", **kwargs)
