"""What a measurement needs of the other processes of a training: nothing, or a few collectives."""

from typing import Any

from torch import Tensor, distributed

from lightning_id.functional import Geometry
from lightning_id.functional.sharded import ShardedGeometry


class Alone:
    """One process."""

    @property
    def size(self) -> int:
        """How many processes there are."""
        return 1

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank."""
        return [value]

    def geometry(self, rows: Tensor) -> Geometry:
        """Return the geometry of the rows of all processes."""
        return Geometry(rows)


class Together(Alone):
    """All processes of a distributed training. Every call is made by all of them."""

    @property
    def size(self) -> int:
        """How many processes there are."""
        return distributed.get_world_size()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank."""
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def geometry(self, rows: Tensor) -> Geometry:
        """Return the geometry of the rows of all processes."""
        return ShardedGeometry(rows)
