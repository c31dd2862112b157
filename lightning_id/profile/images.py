"""The images that a network is measured on: sources, usable images, choice."""

import inspect
import numbers
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import datasets
from torchvision.datasets.folder import IMG_EXTENSIONS

from lightning_id._checks import close_names
from lightning_id.functional.geometry import MIN_DISTINCT
from lightning_id.profile.networks import Transform

ARRAY = ".npy"

Item = tuple[Image.Image | Tensor, int | None]  # an RGB image or an input, and its label if known


@dataclass(frozen=True)
class Source:
    """All items of the data: their number, a reader by position, and class names if known."""

    size: int
    read: Callable[[int], Item]  # raises for a broken item
    classes: Sequence[str] | None = None


@dataclass(frozen=True)
class Images:
    """The chosen images: ascending positions in their source, class names if known, and caveats."""

    source: Source
    positions: list[int]
    classes: Sequence[str] | None
    notes: list[str]


@dataclass(frozen=True)
class Prepared(Dataset[tuple[Tensor, int] | tuple[Tensor]]):
    """Inputs for a network, with labels if known; ready inputs are not transformed."""

    images: Images
    transform: Transform

    def __len__(self) -> int:
        return len(self.images.positions)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | tuple[Tensor]:
        image, label = self.images.source.read(self.images.positions[index])
        inputs = image if isinstance(image, Tensor) else self.transform(image)
        return (inputs,) if label is None else (inputs, label)


def choose_images(data: str, n_samples: int = 2000, seed: int = 0) -> Images:
    """Choose images uniformly by a private generator; broken ones are replaced by others."""
    if n_samples < MIN_DISTINCT:
        raise ValueError(f"`--n-samples`: expected at least {MIN_DISTINCT}, got {n_samples}")
    source = _source(data)
    shapes, labels, broken = _read(source, n_samples, seed)
    if len(shapes) < MIN_DISTINCT:
        raise ValueError(
            f"`--data`: expected at least {MIN_DISTINCT} usable images in {data}, got {len(shapes)}"
            + (f" and {len(broken)} broken, for example: {broken[0]}" if broken else "")
        )
    classes = source.classes or [str(label) for label in range(max(labels, default=-1) + 1)]
    notes = list(_notes(data, source.size, n_samples, list(shapes.values()), broken))
    return Images(source, sorted(shapes), classes if labels else None, notes)


def _read(
    source: Source, n_samples: int, seed: int
) -> tuple[dict[int, tuple[int, ...]], set[int], list[str]]:
    """Return the shapes by position of as many readable items as wanted, all labels, all errors."""
    shapes: dict[int, tuple[int, ...]] = {}
    labels: set[int] = set()
    broken: list[str] = []
    generator = torch.Generator().manual_seed(seed)
    for position in torch.randperm(source.size, generator=generator).tolist():
        if len(shapes) == n_samples:
            break
        try:
            image, label = source.read(position)
        except Exception as error:  # the ways in which a file can be broken have no common class
            broken.append(f"{error}")
            continue
        shapes[position] = tuple(image.shape if isinstance(image, Tensor) else image.size)
        labels |= set() if label is None else {label}
    return shapes, labels, broken


def _notes(
    data: str,
    n_found: int,
    n_asked: int,
    shapes: Sequence[tuple[int, ...]],
    broken: Sequence[str],
) -> Iterator[str]:
    distinct = sorted(set(shapes))
    first, last = ("x".join(map(str, distinct[i])) for i in (0, -1))
    sizes = first if len(distinct) == 1 else f"{len(distinct)} sizes from {first} to {last}"
    things = "inputs" if data.endswith(ARRAY) else "images"
    yield f"{len(shapes)} of the {n_found} {things} in {data}, {sizes}"
    if broken:
        yield f"broken {things} left out: {len(broken)}, for example {broken[0]}"
    if len(shapes) < n_asked:
        yield (
            f"expected {n_asked} {things}, got {len(shapes)} usable ones: all are measured; the"
            " numbers depend on how many there are, so compare only with the same"
        )


# --- sources -------------------------------------------------------------------------------------


def _source(data: str) -> Source:
    path = Path(data).expanduser()
    if path.suffix == ARRAY:
        return _array(path)
    if path.is_dir():
        return _folder(path)
    name, colon, root = data.partition(":")
    if not colon:
        raise ValueError(
            "`--data`: expected a folder of images, NAME:FOLDER with a data set of torchvision, or"
            f" a {ARRAY} file, got {data!r}, which does not exist"
        )
    if name not in datasets.__all__:
        raise ValueError(
            f"`--data`: expected a data set of torchvision before the colon, got {name!r}."
            f"{close_names(name, datasets.__all__)}"
        )
    return _of_torchvision(name, Path(root).expanduser())


def _folder(path: Path) -> Source:
    """Return images in one folder per class, as torchvision's ImageFolder has it, or in one."""
    names = sorted(child.name for child in path.iterdir())
    images = [name for name in names if name.lower().endswith(IMG_EXTENSIONS)]
    files: list[tuple[str, int | None]] = [(str(path / name), None) for name in images]
    classes = None
    if not images and any(child.is_dir() for child in path.iterdir()):
        folder = datasets.ImageFolder(str(path), allow_empty=True)
        files, classes = folder.samples, folder.classes

    def read(position: int) -> Item:
        file, label = files[position]
        try:
            with Image.open(file) as image:
                return image.convert("RGB"), label
        except Exception as error:
            raise ValueError(f"{file}: {error}") from error

    return Source(len(files), read, classes)


def _of_torchvision(name: str, root: Path) -> Source:
    dataset = _test_split(name, root)

    def read(position: int) -> Item:
        image, label = dataset[position]
        return image.convert("RGB"), int(label) if isinstance(label, numbers.Integral) else None

    return Source(len(dataset), read, getattr(dataset, "classes", None))


def _test_split(name: str, root: Path) -> Any:
    kind = getattr(datasets, name)
    known = inspect.signature(kind).parameters
    if "root" not in known:
        raise ValueError(f"`--data`: expected a data set that is kept in a folder, got {name}")
    splits: list[dict[str, Any]] = [{}]
    if "train" in known:
        splits = [{"train": False}]
    elif "split" in known:
        splits = [{"split": "test"}, {"split": "val"}]
    downloads = [{}, {"download": True}] if "download" in known else [{}]
    errors = []
    for download, split in product(downloads, splits):
        try:
            return kind(str(root), **split, **download)
        except Exception as error:  # no such split, no files, no network: each set has its own
            errors.append(error)
    raise ValueError(
        f"`--data`: expected {name} in {root}, got none there and no download: {errors[-1]}"
    ) from errors[-1]


def _array(path: Path) -> Source:
    try:
        rows = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(f"`--data`: expected an array of numbers in {path}: {error}") from error
    if rows.ndim < 2:
        raise ValueError(f"`--data`: expected inputs (n, ...) in {path}, got {rows.shape}")
    is_token = np.issubdtype(rows.dtype, np.integer) and rows.dtype != np.uint8
    dtype = np.int64 if is_token else np.float32
    return Source(len(rows), lambda i: (torch.from_numpy(np.array(rows[i], dtype=dtype)), None))
