"""Where recorded rows are kept: on the device, in host memory, or in a file."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_CHUNK = 2**24  # bytes written at a time when a file is made


class Limits(NamedTuple):
    """Bytes on a device that is not the CPU, and in host memory; None for no limit."""

    device: int | None = None
    host: int | None = None

    def of(self, place: str) -> int | None:
        """Return the limit of a type of device."""
        return self.host if place == "cpu" else self.device

    def total(self, place: str) -> int | None:
        """Return the bytes that rows of a type of device may take in memory altogether."""
        limits = [self.host] if place == "cpu" else [self.device, self.host]
        known = [limit for limit in limits if limit is not None]
        return sum(known) if len(known) == len(limits) else None


def too_large(
    sizes: Mapping[str, int], reduced: Mapping[str, int], limit: int | None
) -> frozenset[str]:
    """Choose the blocks to be reduced, largest first, until all blocks together keep a limit.

    Blocks of one size are all chosen or none, so that equal layers are treated alike.

    Args:
        sizes: Bytes of each block.
        reduced: Bytes of each block that can be reduced.
        limit: Bytes in all; None for no limit.

    Returns:
        The names of those to be reduced.

    Example:
        >>> sorted(too_large({"a": 90, "b": 50, "c": 50, "d": 10}, {"a": 5, "b": 5, "c": 5}, 100))
        ['a', 'b', 'c']
    """
    chosen: set[str] = set()
    total = sum(sizes.values())
    for size in sorted({sizes[name] for name in reduced}, reverse=True):
        if limit is None or total <= limit:
            break
        equal = {name for name in reduced if sizes[name] == size}
        total -= sum(sizes[name] - reduced[name] for name in equal)
        chosen |= equal
    return frozenset(chosen)


class Storage:
    """Blocks of rows by name, each stored once, in the dtype it came in.

    A new block goes to the device of its rows as long as the limit of that is kept, then to host
    memory as long as its limit is kept, then to a memory-mapped temporary file, which is gone with
    this object. A block is estimated where it is.

    Args:
        limits: Bytes on the device, and in host memory; None keeps all on the device.

    Attributes:
        places: ``"cpu"``, another type of device, or ``"file"``, by name.

    Example:
        >>> storage = Storage(Limits(host=1000))
        >>> [storage.new(name, 10, torch.ones(1, 20)).shape for name in ("a", "b")]
        [torch.Size([10, 20]), torch.Size([10, 20])]
        >>> storage.places
        {'a': 'cpu', 'b': 'file'}
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.places: dict[str, str] = {}
        self._blocks: dict[str, Tensor] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[str, Path] = {}
        self._made = 0  # files so far: their names

    def new(self, name: str, n_rows: int, like: Float[Tensor, "r d"]) -> Float[Tensor, "n d"]:
        """Make room for the rows of a layer.

        Args:
            name: The layer.
            n_rows: Rows there will be.
            like: Some of them: they tell width, dtype and device.

        Returns:
            The block; what is in it is undefined.

        Raises:
            OSError: If there is no room for the file.
        """
        shape = (n_rows, like.shape[1])
        size = n_rows * like.shape[1] * like.element_size()
        device = like.device.type
        if self._has_room(device, size):
            place, block = device, like.new_empty(shape)
        elif self._has_room("cpu", size):
            place, block = "cpu", torch.empty(shape, dtype=like.dtype)
        else:
            place, block = "file", self._mapped(name, size, like.dtype).view(shape)
        self.places[name] = place
        self._blocks[name] = block
        return block

    def get(self, name: str) -> Float[Tensor, "n d"] | None:
        """Return the block of a layer, or None if there is none."""
        return self._blocks.get(name)

    def nbytes(self) -> Counter[str]:
        """Return the bytes of all blocks by their place."""
        sizes: Counter[str] = Counter()
        for name, block in self._blocks.items():
            sizes[self.places[name]] += block.nbytes
        return sizes

    def discard(self, name: str) -> None:
        """Free the block of a layer, if there is one."""
        self.places.pop(name, None)
        self._blocks.pop(name, None)
        if name in self._files:
            self._files.pop(name).unlink()

    def _has_room(self, place: str, size: int) -> bool:
        limit = self.limits.of(place)
        return limit is None or self.nbytes()[place] + size <= limit

    def _mapped(self, name: str, size: int, dtype: torch.dtype) -> Tensor:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="lightning_id_")
        path = self._files[name] = Path(self._folder.name) / f"{self._made}.rows"
        self._made += 1
        # Written, not only made long: a full disk is an error here, and a crash (SIGBUS) once the
        # file is mapped.
        with path.open("wb") as file:
            for start in range(0, size, _CHUNK):
                file.write(bytes(min(_CHUNK, size - start)))
        return torch.from_file(str(path), shared=True, size=size // dtype.itemsize, dtype=dtype)
