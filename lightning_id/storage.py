"""Where recorded rows are kept: on the device, in host memory, or in a file."""

import tempfile
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

_CHUNK = 2**24  # bytes written at a time when a file is made


class Storage:
    """Blocks of rows by name, each stored once, in the dtype it came in.

    A new block goes to the device of its rows as long as no more than ``limit`` bytes are there,
    then to host memory up to as many, then to a memory-mapped temporary file, which is gone with
    this object. A block is estimated where it is.

    Args:
        limit: Bytes on the device, and again in host memory; None to keep all on the device.

    Example:
        >>> storage = Storage(limit=1000)
        >>> [storage.new(name, 10, torch.ones(1, 20)).shape for name in ("a", "b")]
        [torch.Size([10, 20]), torch.Size([10, 20])]
        >>> storage.places
        {'a': 'cpu', 'b': 'file'}
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
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

    def discard(self, name: str) -> None:
        """Free the block of a layer, if there is one."""
        self.places.pop(name, None)
        self._blocks.pop(name, None)
        if name in self._files:
            self._files.pop(name).unlink()

    def _has_room(self, place: str, size: int) -> bool:
        if self.limit is None:
            return True
        used = sum(
            block.nbytes for name, block in self._blocks.items() if self.places[name] == place
        )
        return used + size <= self.limit

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
