"""Numbers computed on a device, read together: every reading waits for all work given to it."""

import torch
from torch import Tensor


class Readings:
    """Tensors by name, which are copied to the CPU all at once when the first one is needed."""

    def __init__(self) -> None:
        self._waiting: dict[str, Tensor] = {}
        self._read: dict[str, Tensor] = {}

    def add(self, **values: Tensor) -> None:
        """Add tensors of integers or floating numbers to the next reading."""
        self._waiting |= values

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor in float64 on the CPU: one synchronisation, if it was not read before."""
        if name in self._waiting:
            values = self._waiting.values()
            joined = torch.cat([value.flatten().double() for value in values]).cpu()
            parts = torch.split(joined, [value.numel() for value in values])
            shapes = [value.shape for value in values]
            found = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
            self._read |= zip(self._waiting, found, strict=True)
            self._waiting.clear()
        return self._read[name]
