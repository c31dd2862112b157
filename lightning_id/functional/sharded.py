"""The geometry of rows that several ranks recorded: the columns are divided among them.

Everything needed of a layer is a sum over its columns. So each rank gets some of the columns of
*all* rows by an all-to-all, and an all-reduce completes each sum. No rank holds all of a wide
layer, and all ranks get the same numbers.

A rank that fails must not leave the others waiting: before every sum, and after every estimator,
`check_peers` turns the failure of one rank into a `PeerError` of the others.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from lightning_id.functional.columns import Columns
from lightning_id.functional.geometry import Geometry, checked_rows, few_enough
from lightning_id.functional.neighbors import GramProposer


class PeerError(RuntimeError):
    """Another rank failed on this layer."""


def sharded_geometry(rows: Tensor) -> Geometry:
    """Return the `Geometry` of all rows, of which each rank recorded some.

    All ranks call it at the same time and use the geometry in the same order; d and
    dtype are identical on all ranks. Every estimator returns the same numbers on all ranks. The
    ``x`` of the geometry holds about d / world size columns of all rows. Raises `PeerError` if
    another rank failed.
    """
    rows = checked_rows(rows)
    try:
        exchange = exchange_rows_for_columns(few_enough(rows))
        check_peers(rows.device)  # memory is allocated on all ranks: now one may wait
        columns = Columns(exchange(), rows.shape[1], _all_reduce, rank=distributed.get_rank())
        check_peers(rows.device)
    except PeerError:
        raise
    except Exception:
        check_peers(rows.device, ok=False)
        raise
    return Geometry(GramProposer(columns))


def check_peers(device: torch.device, ok: bool = True) -> None:
    """Check on all ranks whether any rank failed (not ``ok``); raise `PeerError` on the others."""
    flag = torch.tensor(int(ok), device=device)
    distributed.all_reduce(flag, distributed.ReduceOp.MIN)
    if ok and not bool(flag):
        raise PeerError("another rank failed on this layer: see its log")


def _all_reduce(partial_sum: Tensor) -> Tensor:
    check_peers(partial_sum.device)
    distributed.all_reduce(partial_sum)
    return partial_sum


def exchange_rows_for_columns(rows: Float[Tensor, "r d"]) -> Callable[[], Float[Tensor, "n b"]]:
    """Prepare the all-to-all: the function returned exchanges rows of d columns for d / world size.

    All rows, with the first rank first.
    """
    world, me = distributed.get_world_size(), distributed.get_rank()
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world)]
    here = torch.tensor([len(rows)], device=rows.device)
    distributed.all_gather(counts, here)
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
        )
        return received.view(sum(n_rows), mine)

    return exchange
