"""Small data sets in the files that torchvision reads: MNIST's and CIFAR's."""

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100


def write_idx(root: Path, name: str, n_train: int, n_test: int, seed: int | None = None) -> Path:
    """Write MNIST or FashionMNIST; image i is filled with i, or of random pixels with a seed.

    Args:
        root: The torchvision root.
        name: Its folder.
        n_train: Training images.
        n_test: Test images.
        seed: Of the pixels.

    Returns:
        The root.
    """
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for split, n in (("train", n_train), ("t10k", n_test)):
        pixels = np.repeat(np.arange(n, dtype=np.uint8), 784)
        if seed is not None:
            pixels = np.random.default_rng(seed).integers(0, 256, 784 * n, dtype=np.uint8)
        images = struct.pack(">4i", 2051, n, 28, 28) + pixels.tobytes()
        labels = struct.pack(">2i", 2049, n) + bytes(i % 10 for i in range(n))
        (raw / f"{split}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(labels)
    return root


def write_cifar(
    root: Path, patch: pytest.MonkeyPatch, kind: type[CIFAR10], n_train: int, n_test: int
) -> Path:
    """Write CIFAR-10 or CIFAR-100 with random pixels, and let torchvision expect these files.

    Args:
        root: The torchvision root.
        patch: Undoes the change of the checksums.
        kind: The class of the data set.
        n_train: Training images, in as many batches as the real ones.
        n_test: Test images.

    Returns:
        The root.
    """
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    labels, classes = ("fine_labels", 100) if kind is CIFAR100 else ("labels", 10)

    def written(file: str, content: dict) -> str:
        (folder / file).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest()

    for attribute, count in (("train_list", n_train), ("test_list", n_test)):
        files = [file for file, _ in getattr(kind, attribute)]
        checked = []
        for part, file in zip(np.array_split(np.arange(count), len(files)), files, strict=True):
            pixels = generator.integers(0, 256, (len(part), 3072), dtype=np.uint8)
            content = {"data": pixels, labels: [int(i) % classes for i in part]}
            checked.append([file, written(file, content)])
        patch.setattr(kind, attribute, checked)
    names = [f"class{i}" for i in range(classes)]
    meta = {**kind.meta, "md5": written(kind.meta["filename"], {kind.meta["key"]: names})}
    patch.setattr(kind, "meta", meta)
    return root
