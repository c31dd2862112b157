"""The images that a network is measured on: sources, usable images, choice."""

import inspect
import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class Source(Protocol):
    """All items of the data, with the names of the classes if known; broken items raise."""

    classes: Sequence[str] | None

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Item: ...


@dataclass(frozen=True)
class Images:
    """The chosen images: positions in their source, ascending.

    `classes` are the names by label, None without labels; `notes` are caveats about the choice, a
    sentence each.
    """

    source: Source
    positions: list[int]
    classes: Sequence[str] | None
    notes: list[str]

    def prepared(self, transform: Transform) -> "Prepared":
        """Return them as a network wants them."""
        return Prepared(self, transform)


class Prepared(Dataset[tuple[Tensor, int] | tuple[Tensor]]):
    """Inputs for a network, with labels if known; ready inputs are not transformed."""

    def __init__(self, images: Images, transform: Transform) -> None:
        self._images = images
        self._transform = transform

    def __len__(self) -> int:
        return len(self._images.positions)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | tuple[Tensor]:
        image, label = self._images.source[self._images.positions[index]]
        inputs = image if isinstance(image, Tensor) else self._transform(image)
        return (inputs,) if label is None else (inputs, label)


def choose_images(data: str, n_samples: int = 2000, seed: int = 0) -> Images:
    """Choose images uniformly, reading each once and replacing broken ones.

    Args:
        data: A folder with one folder of images per class, or with images; ``NAME:FOLDER``, a data
            set of torchvision, whose test split is used and downloaded if it is not there; or a
            ``.npy`` file of inputs (n, ...): whole numbers become int64, for they are token ids,
            all others (and uint8, the pixels) float32.
        n_samples: Number of images, all if there are fewer.
        seed: Seed of a private generator.

    Returns:
        The images, in the order of the data.

    Raises:
        ValueError: If there is no such data or fewer than three images are usable.
    """
    if n_samples < MIN_DISTINCT:
        raise ValueError(f"`--n-samples`: expected at least {MIN_DISTINCT}, got {n_samples}")
    source = _open(data)
    usable, broken = _read(source, n_samples, seed)
    if len(usable) < MIN_DISTINCT:
        raise ValueError(
            f"`--data`: expected at least {MIN_DISTINCT} usable images in {data}, got {len(usable)}"
            + (f" and {len(broken)} broken, for example: {broken[0]}" if broken else "")
        )
    shapes = sorted({shape for shape, _ in usable.values()})
    labels = [label for _, label in usable.values() if label is not None]
    classes = source.classes or [str(label) for label in range(max(labels, default=-1) + 1)]
    notes = list(_notes(data, len(source), n_samples, len(usable), broken, shapes))
    return Images(source, sorted(usable), classes if labels else None, notes)


def _read(
    source: Source, n_samples: int, seed: int
) -> tuple[dict[int, tuple[tuple[int, ...], int | None]], list[str]]:
    """Return shape and label of as many readable items as wanted, and the errors of the others."""
    usable: dict[int, tuple[tuple[int, ...], int | None]] = {}
    broken: list[str] = []
    generator = torch.Generator().manual_seed(seed)
    for position in torch.randperm(len(source), generator=generator).tolist():
        if len(usable) == n_samples:
            break
        try:
            image, label = source[position]
        except Exception as error:  # the ways in which a file can be broken have no common class
            broken.append(f"{error}")
        else:
            shape = image.shape if isinstance(image, Tensor) else image.size
            usable[position] = tuple(shape), label
    return usable, broken


def _notes(
    data: str,
    n_found: int,
    n_asked: int,
    n_usable: int,
    broken: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
) -> Iterator[str]:
    first, last = ("x".join(map(str, shapes[i])) for i in (0, -1))
    sizes = first if len(shapes) == 1 else f"{len(shapes)} sizes from {first} to {last}"
    things = "inputs" if data.endswith(ARRAY) else "images"
    yield f"{n_usable} of the {n_found} {things} in {data}, {sizes}"
    if broken:
        yield f"broken {things} left out: {len(broken)}, for example {broken[0]}"
    if n_usable < n_asked:
        yield (
            f"expected {n_asked} {things}, got {n_usable} usable ones: all are measured; the"
            " numbers depend on how many there are, so compare only with the same"
        )


# --- sources -------------------------------------------------------------------------------------


def _open(data: str) -> Source:
    path = Path(data).expanduser()
    if path.suffix == ARRAY:
        return _Array(path)
    if path.is_dir():
        return _Folder(path)
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
    return _TorchvisionSet(name, Path(root).expanduser())


class _Folder:
    """Images in one folder per class, as torchvision's ImageFolder sees them, or in one folder."""

    classes: Sequence[str] | None = None

    def __init__(self, path: Path) -> None:
        names = sorted(child.name for child in path.iterdir())
        images = [name for name in names if name.lower().endswith(IMG_EXTENSIONS)]
        self._files: list[tuple[str, int | None]] = [(str(path / name), None) for name in images]
        if not images and any(child.is_dir() for child in path.iterdir()):
            folder = datasets.ImageFolder(str(path), allow_empty=True)
            self._files, self.classes = folder.samples, folder.classes

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, position: int) -> Item:
        path, label = self._files[position]
        try:
            with Image.open(path) as image:
                return image.convert("RGB"), label
        except Exception as error:
            raise ValueError(f"{path}: {error}") from error


class _TorchvisionSet:
    """The test split of a data set of torchvision."""

    def __init__(self, name: str, root: Path) -> None:
        self._dataset = _test_split(name, root)
        self.classes: Sequence[str] | None = getattr(self._dataset, "classes", None)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, position: int) -> Item:
        image, label = self._dataset[position]
        return image.convert("RGB"), int(label) if isinstance(label, numbers.Integral) else None


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


class _Array:
    """Inputs in a file of numpy."""

    classes: Sequence[str] | None = None

    def __init__(self, path: Path) -> None:
        try:
            self._rows = np.lib.format.open_memmap(path, mode="r")
        except ValueError as error:
            raise ValueError(
                f"`--data`: expected an array of numbers in {path}: {error}"
            ) from error
        if self._rows.ndim < 2:
            raise ValueError(
                f"`--data`: expected inputs (n, ...) in {path}, got {self._rows.shape}"
            )
        is_pixels = self._rows.dtype == np.uint8
        is_ids = np.issubdtype(self._rows.dtype, np.integer) and not is_pixels
        self._dtype = np.int64 if is_ids else np.float32

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> Item:
        return torch.from_numpy(np.array(self._rows[position], dtype=self._dtype)), None
