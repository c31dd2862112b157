"""The geometry of rows that several processes recorded: the columns are dealt out to them.

Everything needed of a layer is a sum over its columns. So each process is given some of the columns
of *all* rows (one ``all_to_all``), does the work on those, and the sums are completed by
``all_reduce``. No process holds all of a wide layer, and all end with the same numbers.

A process that fails must not leave the others waiting. Before every sum the processes tell each
other whether all is well, and at the end of the work on a layer once more
(`ShardedGeometry.settle`): so a failure of one becomes a `PeerError` of the others at the same
place.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from lightning_id.functional.columns import Columns
from lightning_id.functional.geometry import Geometry


class PeerError(RuntimeError):
    """Another process failed on this layer."""


class ShardedGeometry(Geometry):
    """A `Geometry` of all rows, of which each process recorded some.

    All processes of the group make it at the same time, ask the same of it in the same order, and
    call `settle` when they are done. It gives every estimator the same numbers everywhere.

    Args:
        rows: (n_here, d) rows recorded by this process, n_here >= 0; d and dtype alike everywhere.
        group: The processes; None is all of them.

    Raises:
        PeerError: If another process failed.
    """

    backend = "gram"

    def __init__(self, rows: Tensor, group: distributed.ProcessGroup | None = None) -> None:
        self._group = group
        super().__init__(rows)
        try:
            exchange = deal_columns(self.x, group)
            self.settle()  # the memory is taken everywhere: only now does anyone wait for rows
            self._hold(Columns(exchange(), self.ambient_dimension, self._complete), self.dtype)
            self.settle()
        except PeerError:
            raise
        except Exception:
            self.settle(ok=False)
            raise

    def settle(self, ok: bool = True) -> None:
        """Tell the other processes whether this one is well, and hear the same of them.

        Args:
            ok: False if this process failed. It hears of no one else then.

        Raises:
            PeerError: If this process is well and another is not.
        """
        flag = torch.tensor(int(ok), device=self.x.device)
        distributed.all_reduce(flag, distributed.ReduceOp.MIN, group=self._group)
        if ok and not bool(flag):
            raise PeerError("another process failed on this layer; its log says why")

    def _complete(self, partial: Tensor) -> Tensor:
        self.settle()
        distributed.all_reduce(partial, group=self._group)
        return partial


def deal_columns(
    rows: Float[Tensor, "r d"], group: distributed.ProcessGroup | None = None
) -> Callable[[], Float[Tensor, "n b"]]:
    """Prepare to exchange rows for columns: this process's share of the columns of all rows.

    Args:
        rows: Rows recorded here.
        group: The processes; None is all of them.

    Returns:
        A function that does the exchange and returns all n rows, those of the first process first,
        of about d / processes columns.
    """
    world, me = distributed.get_world_size(group), distributed.get_rank(group)
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world)]
    here = torch.tensor([len(rows)], device=rows.device)
    distributed.all_gather(counts, here, group=group)
    n_rows = [int(count) for count in counts]
    edges = [round(i * rows.shape[1] / world) for i in range(world + 1)]
    mine = edges[me + 1] - edges[me]
    sent = rows.new_empty(rows.numel())
    for low, high in pairwise(edges):
        part = sent[len(rows) * low : len(rows) * high]
        part.view(len(rows), high - low).copy_(rows[:, low:high])
    received = rows.new_empty(sum(n_rows) * mine)
    size = rows.element_size()

    def exchange() -> Float[Tensor, "n b"]:
        # As bytes: a copy needs no arithmetic, which some backends lack for half precision.
        distributed.all_to_all_single(
            received.view(torch.uint8),
            sent.view(torch.uint8),
            output_split_sizes=[n * mine * size for n in n_rows],
            input_split_sizes=[len(rows) * (b - a) * size for a, b in pairwise(edges)],
            group=group,
        )
        return received.view(sum(n_rows), mine)

    return exchange
