"""Fashion-MNIST."""

from typing import Any

from lightning_id.experiments.images import ImageDataModule


class FashionMNISTDataModule(ImageDataModule):
    """Pieces of clothing, `(b, 1, 28, 28)`: an `ImageDataModule` of Fashion-MNIST.

    Args:
        **kwargs: See `ImageDataModule`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name="FashionMNIST", **kwargs)
