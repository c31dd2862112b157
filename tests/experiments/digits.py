"""Small forms of MNIST, and the data module over them."""

from pathlib import Path

from lightning_id.experiments.mnist import MNISTDataModule
from tests.image_files import write_idx


def write_mnist(root: Path) -> Path:
    """Write a small MNIST as torchvision stores it; image i of a split is filled with i."""
    return write_idx(root, "MNIST", n_train=7, n_test=5)


def ready(**arguments) -> MNISTDataModule:
    data = MNISTDataModule(**arguments)
    data.prepare_data()
    data.setup("fit")
    return data
