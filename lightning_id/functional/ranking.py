"""Nearest rows: by their products, quickly, or by their differences, exactly."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_id.functional.columns import Columns
from lightning_id.functional.products import block_width

_ROWS_OF_MEDIAN = 64  # at least, evenly spaced, that the median of a column is taken of


class Ranked(NamedTuple):
    """Squared distances of near rows, ascending, and their numbers."""

    distance2: Float[Tensor, "m k"]
    numbers: Int[Tensor, "m k"]


def rank(
    products: Float[Tensor, "r n"],
    rows: Int[Tensor, " m"] | None,
    columns: Int[Tensor, " c"] | None,
    k: int,
    norm2: Float[Tensor, " n"] | None = None,
) -> Ranked:
    """Return the k nearest of ``columns`` for each of ``rows`` by products; None is all rows.

    |x_i - x_j|² = g_ii + g_jj - 2 g_ij is smallest where g_ij - g_jj / 2 is largest. A tile of rows
    at a time: no second n x n matrix is made. A row is no neighbour of itself. ``products`` is the
    Gram matrix, or its rows ``rows`` with the squared norms of all rows, ``norm2``.
    """
    norm2 = products.diagonal() if norm2 is None else norm2
    half = norm2 / 2
    if columns is not None:
        half = torch.full_like(half, math.inf).index_copy_(0, columns, half[columns])
    whole = len(products) == products.shape[1]
    n_rows = len(products) if rows is None else len(rows)
    tile = max(1, _tile_elements(products.device) // products.shape[1])
    work = products.new_empty((min(tile, n_rows), products.shape[1]))
    estimates, indices = [], []
    for low in range(0, n_rows, tile):
        high = min(low + tile, n_rows)
        some = products[rows[low:high]] if whole and rows is not None else products[low:high]
        scores = torch.sub(some, half, out=work[: high - low])
        if rows is None:
            scores[:, low:high].fill_diagonal_(-math.inf)
            mine = norm2[low:high]
        else:
            scores.scatter_(1, rows[low:high, None], -math.inf)
            mine = norm2[rows[low:high]]
        best, index = _largest(scores, k)
        estimates.append(mine.double()[:, None] - 2 * best.double())
        indices.append(index)
    return Ranked(torch.cat(estimates), torch.cat(indices))


def _tile_elements(device: torch.device) -> int:
    """Return the numbers in a tile: as many as fit a CPU's cache, or occupy a GPU."""
    return 2**20 if device.type == "cpu" else 2**26


def _largest(
    scores: Float[Tensor, "t n"], k: int
) -> tuple[Float[Tensor, "t k"], Int[Tensor, "t k"]]:
    """Return the k largest of each row and their columns.

    The k largest lie in the k groups of largest maximum, and a maximum is found at the speed of
    memory: for three of 10 000 columns twice as fast as ``topk`` alone on a CPU.
    """
    groups = 8
    width = scores.shape[1] // groups
    if scores.device.type != "cpu" or k * groups > width // 4:
        best = scores.topk(k, dim=1)
        return best.values, best.indices
    tail = width * groups
    maxima = scores[:, :tail].view(len(scores), groups, width).amax(1)
    chosen = maxima.topk(k, dim=1).indices
    columns = (chosen[:, :, None] + width * torch.arange(groups, device=scores.device)).flatten(1)
    columns = torch.cat(
        (
            columns,
            torch.arange(tail, scores.shape[1], device=scores.device).expand(len(scores), -1),
        ),
        dim=1,
    )
    values, at = scores.gather(1, columns).topk(k, dim=1)
    return values, columns.gather(1, at)


def nearest(
    columns: Columns,
    rows: Int[Tensor, " m"] | None,
    candidates: Int[Tensor, "m c"],
    k: int,
    dtype: torch.dtype,
) -> Ranked:
    """Return squared distances, ascending, and numbers of the k nearest candidates of some rows.

    ``rows`` None is all rows.
    From differences: these, their squares and sums over at most 4096 columns in ``dtype``, sums
    beyond in float64. In float32 a distance is right to 1e-7 of itself.
    """
    x = columns.x
    m, c = candidates.shape
    distance2 = torch.zeros((m, c), dtype=torch.float64, device=x.device)
    width = max(1, block_width(x.shape[1]))  # a rank may hold no column
    chunk = max(1, _tile_elements(x.device) // (4 * width))
    for part in columns.blocks():
        block = x[:, part]
        for low in range(0, m, chunk):
            some = slice(low, low + chunk)
            mine = block[some if rows is None else rows[some]].to(dtype)
            for j in range(c):
                difference = block.index_select(0, candidates[some, j]).to(dtype)
                difference.sub_(mine).square_()
                distance2[some, j] += difference.sum(1)
    distance2, order = columns.all_reduce_sum(distance2).sort(dim=1)
    return Ranked(distance2[:, :k], candidates.gather(1, order[:, :k]))


def score_pairs(
    columns: Columns, rows: Int[Tensor, " m"], others: Int[Tensor, "m j"]
) -> tuple[Float[Tensor, "m j"], Float[Tensor, "m j"]]:
    r"""Return :math:`|x - y|^2` and :math:`w |x - y|^2` of pairs of rows, in float64.

    The rounding of the rows moves a distance by about :math:`u \sqrt{2 w}`. A value is wrong by a
    rounding of itself, or of the larger ones that it was computed from: with the largest of the two
    coordinates and the median magnitude of their column, :math:`m_c`,

    .. math:: w = \sum_c (x_c - y_c)^2 m_c^2 / |x - y|^2 .

    (With the largest of the column, a few outlying rows would hide the distances of all others.)
    """
    x = columns.x
    distance2 = torch.zeros(others.shape, dtype=torch.float64, device=x.device)
    moved2 = torch.zeros_like(distance2)
    width = max(1, block_width(x.shape[1]))
    chunk = max(1, _tile_elements(x.device) // (4 * width))
    for part in columns.blocks():
        block = x[:, part]
        spaced = block[:: max(1, len(block) // _ROWS_OF_MEDIAN)]
        typical = spaced.abs().median(dim=0).values.double()
        for start in range(0, len(rows), chunk):
            some = slice(start, start + chunk)
            mine = block[rows[some]].double()
            for j in range(others.shape[1]):
                other = block.index_select(0, others[some, j]).double()
                square = (other - mine).square_()
                distance2[some, j] += square.sum(1)
                largest = torch.maximum(other.abs_(), mine.abs()).clamp_min_(typical)
                moved2[some, j] += torch.linalg.vecdot(square, largest.square_())
    return columns.all_reduce_sum(distance2), columns.all_reduce_sum(moved2)
