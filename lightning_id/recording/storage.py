"""Where recorded rows are kept: on the device, in host memory, or in a file."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
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
    """Choose the blocks to reduce, largest first, equal ones together, until a limit is kept."""
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
    """Blocks of rows by layer, each on their device, in host memory or in a file: `places`."""

    # A block is allocated at its first rows: on their device while its limit is kept, else in host
    # memory while that limit is kept, else in a temporary file, deleted with this object.

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.places: dict[str, str] = {}
        self._blocks: dict[str, Tensor] = {}
        self._is_written: dict[str, Bool[Tensor, " n"]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[str, Path] = {}
        self._n_files = 0  # made so far: their names

    def write(
        self, name: str, rows: Float[Tensor, "r d"], slots: Int[Tensor, " r"], n_slots: int
    ) -> None:
        """Write rows into their slots; raises ValueError for rows of another length than before."""
        if name not in self._blocks:
            self._blocks[name] = self._allocate(name, n_slots, rows)
            self._is_written[name] = torch.zeros(n_slots, dtype=torch.bool)
        block = self._blocks[name]
        if block.shape[1] != rows.shape[1]:
            raise ValueError(
                f"expected {block.shape[1]} features as in the batches before, got"
                f" {rows.shape[1]}; reduce='mean', 'last' or 'tokens' gives rows of one length"
            )
        there = slots.to(block.device, non_blocking=True)
        block.index_copy_(0, there, rows.to(block))
        self._is_written[name][slots] = True

    def rows(self, name: str) -> Float[Tensor, "n d"] | None:
        """Return the rows of a layer, in the order of their slots; None if there are none."""
        if name not in self._blocks:
            return None
        block, is_written = self._blocks[name], self._is_written[name]
        n = int(is_written.sum())
        return block[:n] if bool(is_written[:n].all()) else block[is_written.to(block.device)]

    def slots(self, name: str) -> Int[Tensor, " n"] | None:
        """Return the slots of the rows of a layer, in order; None if there are none."""
        return self._is_written[name].nonzero()[:, 0] if name in self._blocks else None

    def nbytes(self) -> Counter[str]:
        """Return the bytes of all blocks by their place."""
        sizes: Counter[str] = Counter()
        for name, block in self._blocks.items():
            sizes[self.places[name]] += block.nbytes
        return sizes

    def discard(self, name: str) -> None:
        """Free the rows of a layer, if there are any."""
        self.places.pop(name, None)
        self._blocks.pop(name, None)
        self._is_written.pop(name, None)
        if name in self._files:
            self._files.pop(name).unlink()

    def _allocate(self, name: str, n_slots: int, like: Float[Tensor, "r d"]) -> Tensor:
        shape, place = (n_slots, like.shape[1]), like.device.type
        size = n_slots * like.shape[1] * like.element_size()
        if self._has_room(place, size):
            block = like.new_empty(shape)
        elif self._has_room("cpu", size):
            place, block = "cpu", torch.empty(shape, dtype=like.dtype)
        else:
            place, block = "file", self._mapped(name, size, like.dtype).view(shape)
        self.places[name] = place
        return block

    def _has_room(self, place: str, size: int) -> bool:
        limit = self.limits.of(place)
        return limit is None or self.nbytes()[place] + size <= limit

    def _mapped(self, name: str, size: int, dtype: torch.dtype) -> Tensor:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="lightning_id_")
        path = self._files[name] = Path(self._folder.name) / f"{self._n_files}.rows"
        self._n_files += 1
        # Written, not only made long: a full disk is an error here, and a crash (SIGBUS) once the
        # file is mapped.
        with path.open("wb") as file:
            for start in range(0, size, _CHUNK):
                file.write(bytes(min(_CHUNK, size - start)))
        return torch.from_file(str(path), shared=True, size=size // dtype.itemsize, dtype=dtype)
