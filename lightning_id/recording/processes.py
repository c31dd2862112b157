"""Collectives used by a measurement, with a no-op version for a single process."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, distributed

from lightning_id.functional import Geometry
from lightning_id.functional.sharded import ShardedGeometry


@runtime_checkable
class Processes(Protocol):
    """All ranks of a training. Every method is called on all ranks, in the same order."""

    @property
    def size(self) -> int:
        """The number of ranks."""

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in order of rank."""

    def geometry(self, rows: Tensor) -> Geometry:
        """Return the geometry of the rows of all ranks."""


class SingleProcess:
    """A training in one process."""

    size = 1

    def all_gather(self, value: Any) -> list[Any]:
        """Return the value alone."""
        return [value]

    def geometry(self, rows: Tensor) -> Geometry:
        """Return the geometry of the rows."""
        return Geometry(rows)


class DistributedProcesses:
    """The ranks of the default process group of `torch.distributed`."""

    @property
    def size(self) -> int:
        """The number of ranks."""
        return distributed.get_world_size()

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in order of rank."""
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def geometry(self, rows: Tensor) -> Geometry:
        """Return the geometry of the rows of all ranks, its columns divided among them."""
        return ShardedGeometry(rows)
