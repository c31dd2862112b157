"""Neighbours by faiss, for more rows than an n x n matrix can hold (extra ``faiss``).

faiss replaces the proposer of neighbours alone. Distances are computed again from the rows as they
came and checked against the same error bound, so they are as exact as the default.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_id.functional.columns import Columns
from lightning_id.functional.geometry import Geometry, checked_rows
from lightning_id.functional.neighbors import Proposer
from lightning_id.functional.ranking import Ranked

_QUERIES = 16_384  # rows searched at a time: bounds the memory of the search


def faiss_geometry(x: Tensor) -> Geometry:
    """Return a `Geometry` whose neighbours are proposed by an exact search of faiss.

    Any estimator takes it in place of the rows; the ``backend`` of the estimate is ``"faiss"``.
    Time grows with n², memory with n: a centred copy of the rows in float32, and one in faiss. The
    GPU build of faiss searches rows on a GPU there.

    Args:
        x: (n, d) rows of any floating dtype on any device.

    Returns:
        The geometry.

    Raises:
        ModuleNotFoundError: If faiss is not installed.
        ValueError: If ``x`` is not a dense two-dimensional floating tensor with at least one
            column.

    Example:
        >>> import torch
        >>> from lightning_id.functional import twonn_dimension
        >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
        >>> estimate = twonn_dimension(faiss_geometry(x))
        >>> estimate.backend, estimate.value == twonn_dimension(x).value
        ('faiss', True)
    """
    return Geometry(FaissProposer(Columns(checked_rows(x))))


class FaissProposer(Proposer):
    """Proposes by an exact search of faiss in float32; needs faiss."""

    backend = "faiss"
    dtype = torch.float32
    has_products = False  # no n x n matrix: distances of all orders come from differences

    def __init__(self, columns: Columns) -> None:
        import faiss  # noqa: PLC0415 - an extra

        self.columns = columns
        self._faiss: Any = faiss

    def subset(self, index: Int[Tensor, " s"]) -> "FaissProposer":
        """Return the proposer of some of the rows."""
        columns = self.columns
        return FaissProposer(Columns(columns.x[index], source_dtype=columns.source_dtype))

    @cached_property
    def _rows(self) -> Float[Tensor, "n d"]:
        everything = slice(0, self.columns.ambient_dimension)
        return self.columns.centred(everything, torch.float32).contiguous()

    @cached_property
    def norm2(self) -> Float[Tensor, " n"]:
        """Squared norms of the centred rows."""
        return self._rows.square().sum(1)

    def ranked(
        self, rows: Int[Tensor, " m"] | None, columns: Int[Tensor, " c"] | None, k: int
    ) -> Ranked:
        """Propose the k nearest of ``columns`` for each of ``rows``: see `Proposer`."""
        every = torch.arange(len(self._rows), device=self._rows.device)
        rows = every if rows is None else rows
        columns = every if columns is None else columns
        index = self._index(columns)
        # A row is its own neighbour, first or among its equals: search one more, and leave it out.
        found = [
            index.search(self._rows[part].cpu().numpy(), k + 1)
            for part in torch.split(rows, _QUERIES)
        ]
        distance2 = torch.from_numpy(np.concatenate([d for d, _ in found])).to(rows.device)
        numbers = columns[torch.from_numpy(np.concatenate([i for _, i in found])).to(rows.device)]
        itself = (numbers == rows[:, None]).to(torch.int8)
        order = itself.argsort(dim=1, stable=True)[:, :k]
        return Ranked(distance2.double().gather(1, order), numbers.gather(1, order))

    def _index(self, columns: Int[Tensor, " c"]) -> Any:
        index = self._faiss.IndexFlatL2(self.columns.ambient_dimension)
        if self._rows.is_cuda and hasattr(self._faiss, "StandardGpuResources"):
            resources = self._faiss.StandardGpuResources()
            index = self._faiss.index_cpu_to_gpu(resources, self._rows.device.index or 0, index)
        for part in torch.split(columns, _QUERIES):
            index.add(self._rows[part].cpu().numpy())
        return index
