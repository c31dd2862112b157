"""Collectives used by a measurement, with a no-op version for a single process."""

from typing import Any

from torch import Tensor, distributed

from lightning_id.functional import Estimate, Geometry, sharded
from lightning_id.functional.registry import Estimator
from lightning_id.functional.sharded import PeerError, sharded_geometry


def rank_here() -> int:
    """Return the rank of this process in the default group; 0 without one."""
    is_one_of_several = distributed.is_available() and distributed.is_initialized()
    return distributed.get_rank() if is_one_of_several else 0


class SingleProcess:
    """A training in one process."""

    size = 1

    def all_gather(self, value: Any) -> list[Any]:
        """Return the value alone."""
        return [value]

    def geometry(self, rows: Tensor) -> Geometry:
        """Return the geometry of the rows."""
        return Geometry(rows)

    def estimate(self, estimator: Estimator, geometry: Geometry) -> Estimate | Exception:
        """Return the estimate, or the error of the estimator."""
        try:
            return estimator(geometry)
        except Exception as error:
            return error


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
        return sharded_geometry(rows)

    def estimate(self, estimator: Estimator, geometry: Geometry) -> Estimate | Exception:
        """Return the estimate, or the error of whichever rank failed; raise if none can agree."""
        device = geometry.x.device
        try:
            estimate = estimator(geometry)
        except PeerError as error:
            return error
        except Exception as error:
            sharded.check_peers(device, ok=False)
            return error
        try:
            sharded.check_peers(device)
        except PeerError as error:
            return error
        return estimate


# All ranks of a training. Every method is called on all ranks, in the same order.
Processes = SingleProcess | DistributedProcesses
