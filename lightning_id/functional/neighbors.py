"""The nearest neighbours of rows, exact: proposed quickly, then checked against an error bound.

A proposer, by default the float32 Gram matrix, only *proposes* candidates; their distances are
computed again from the rows as they came, by differences, and a row is accepted only when no other
row can be nearer within the error bound of the proposer. What fails the bound is looked at again
with more candidates, then in float64, then by brute force.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_id.functional.columns import Columns
from lightning_id.functional.duplicates import repeats_an_earlier_row
from lightning_id.functional.products import block_width
from lightning_id.functional.ranking import nearest, rank, score_pairs

CANDIDATES = 5  # neighbours proposed for a row when those that are nearest leave a doubt
EXACT_ORDERS = 16  # up to this order every distance comes from differences, above only in doubt

# A float64 distance whose squared error is below this share of it is taken: log mu is then right to
# 1e-6 in the worst case seen (ID 100). It matters where many distances tie and none stands out.
_TOLERANCE = 1e-8
# The same for a distance above order 16, which is itself read off the float64 products. log mu is
# then large against the error.
_FAR_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Neighbors:
    """The nearest neighbours of every distinct row.

    Attributes:
        distances: (m, k) float64 on the CPU, ascending; m distinct rows, k orders.
        indices: (m, k) number of the neighbour among the m distinct rows.
    """

    distances: Float[Tensor, "m k"]
    indices: Int[Tensor, "m k"]


class Proposer(ABC):
    """What proposes neighbours, by a reckoning of its own that may be coarse.

    Attributes:
        dtype: What it reckons in; the error bound follows from it.
        has_products: Whether float64 products of all rows may be made, for orders above 16.
    """

    dtype: torch.dtype
    has_products: bool

    @property
    @abstractmethod
    def norm2(self) -> Float[Tensor, " n"]:
        """Squared norms of the centred rows."""

    @abstractmethod
    def ranked(
        self, rows: Int[Tensor, " m"] | None, columns: Int[Tensor, " c"] | None, k: int
    ) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """Propose the k nearest of ``columns`` for each of ``rows``; None is all rows.

        Args:
            rows: Numbers of the rows to propose for.
            columns: Numbers of the rows that may be neighbours; a row is no neighbour of itself.
            k: How many.

        Returns:
            Estimated squared distances in float64, ascending, and the numbers of the rows.
        """


class GramProposer(Proposer):
    """Proposes by the Gram matrix of the rows.

    Args:
        columns: The rows.
    """

    has_products = True

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.dtype = columns.dtype

    @property
    def norm2(self) -> Float[Tensor, " n"]:
        """Squared norms of the centred rows."""
        return self._columns.gram.diagonal()

    def ranked(
        self, rows: Int[Tensor, " m"] | None, columns: Int[Tensor, " c"] | None, k: int
    ) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """Propose the k nearest of ``columns`` for each of ``rows``: see `Proposer`."""
        return rank(self._columns.gram, rows, columns, k)


class NeighborSearch:
    """The distinct rows and their nearest neighbours.

    Its methods expect `lightning_id.functional.precision.exact_arithmetic`.

    Args:
        columns: The rows.
        proposer: What proposes neighbours of them.
    """

    def __init__(self, columns: Columns, proposer: Proposer) -> None:
        self._columns = columns
        self._proposer = proposer

    @cached_property
    def distinct(self) -> Int[Tensor, " m"]:
        """Numbers of the rows that do not repeat an earlier one, ascending. Two synchronisations.

        Equal rows are looked for among those whose nearest distance could be 0.
        """
        estimates, _ = self._proposals
        norm2 = self._proposer.norm2.double()
        bound = self._bound(norm2, torch.zeros_like(norm2), self._proposer.dtype)
        suspects = (~(estimates[:, 0] > bound)).nonzero()[:, 0]
        x = self._columns.x
        repeats = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if len(suspects):
            repeats[suspects] = repeats_an_earlier_row(x[suspects], self._columns.sum)
        return (~repeats).nonzero()[:, 0]

    def find(self, k: int) -> Neighbors:
        """Find the k nearest among the distinct rows; positions count the distinct rows only.

        Args:
            k: How many, from 1 to the number of distinct rows - 1.

        Returns:
            Distances and indices.
        """
        few = k <= EXACT_ORDERS or not self._proposer.has_products
        distance2, index = self._propose_and_check(k) if few else self._many(k)
        device = self._columns.x.device
        position = torch.full((self._columns.n_samples,), -1, device=device)
        position[self.distinct] = torch.arange(len(self.distinct), device=device)
        return Neighbors(distance2.sqrt().cpu(), position[index].cpu())

    def _many(self, k: int) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """Return k neighbours where differences for all are too slow (3 times, at 64 x 21632)."""
        distinct = self.distinct
        most = len(distinct) - 1
        wide = min(k + 6, most)
        gram = self._columns.gram_matrix(torch.float64)
        estimates, candidates = rank(gram, distinct, distinct, min(wide + 1, most))
        norm2 = gram.diagonal()[distinct]
        distance2, index = estimates[:, :k].clone(), candidates[:, :k].clone()
        unknown = torch.full_like(norm2, -math.inf)  # products are taken only where they are right
        sound = self._sound(distance2[:, EXACT_ORDERS:], unknown, norm2, gram.dtype, _FAR_TOLERANCE)
        distance2[:, :EXACT_ORDERS], index[:, :EXACT_ORDERS] = nearest(
            self._columns, distinct, index[:, :EXACT_ORDERS], EXACT_ORDERS, self._columns.dtype
        )
        in_range = (distance2[:, 0] > self._vanishing) & distance2[:, EXACT_ORDERS - 1].isfinite()
        doubt = self._doubtful(sound & in_range)
        if len(doubt):
            rest = estimates[:, wide] if wide < most else torch.full_like(norm2, math.inf)
            doubt = self._look_wider(
                distance2,
                index,
                doubt,
                candidates[doubt, :wide],
                rest[doubt],
                norm2[doubt],
                gram.dtype,
            )
        if len(doubt):
            distance2[doubt], index[doubt] = self._brute_force(distinct[doubt], k)
        return distance2, index

    def _propose_and_check(self, k: int) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """Return exact squared distances and row numbers of the k nearest distinct rows."""
        distinct = self.distinct
        most = len(distinct) - 1
        dtype = self._proposer.dtype
        estimates, candidates = self._candidates(min(k + 1, most))
        norm2 = self._proposer.norm2[distinct].double()

        distance2, index = nearest(
            self._columns, distinct, candidates[:, :k], k, self._columns.dtype
        )
        rest = estimates[:, k] if k < most else torch.full_like(norm2, math.inf)
        sound = self._sound(distance2, rest, norm2, dtype)
        doubt = self._doubtful(sound & (distance2[:, 0] > self._vanishing))
        wide = min(max(CANDIDATES, k + 3), most)
        if len(doubt):
            estimates, candidates = self._proposer.ranked(
                distinct[doubt], distinct, min(wide + 1, most)
            )
            rest = estimates[:, wide] if wide < most else torch.full_like(norm2[doubt], math.inf)
            doubt = self._look_wider(
                distance2, index, doubt, candidates[:, :wide], rest, norm2[doubt], dtype
            )
        if len(doubt):
            doubt = self._look_closer(distance2, index, doubt, wide)
        if len(doubt):
            distance2[doubt], index[doubt] = self._brute_force(distinct[doubt], k)
        return distance2, index

    @property
    def largest_norm(self) -> float:
        """A bound on the norm of a row, not centred: one synchronisation."""
        d = self._columns.ambient_dimension
        centred2 = self._proposer.norm2.amax().double() + d * torch.finfo(self._proposer.dtype).tiny
        mean2 = self._columns.sum(self._columns.means.double().square().sum())
        return float(centred2.sqrt() + mean2.sqrt())

    def scores(
        self, rows: Int[Tensor, " s"], others: Int[Tensor, "s j"]
    ) -> tuple[Float[Tensor, "s j"], Float[Tensor, "s j"]]:
        """Return distances of pairs of distinct rows, in float64, and the rounding in them.

        Args:
            rows: Numbers of the first rows of the pairs, among the distinct rows.
            others: Numbers of their partners, among the distinct rows.

        Returns:
            On the CPU, distances and root mean squares of the coordinates along the line from row
            to partner: see `lightning_id.functional.ranking.score_pairs`.
        """
        device = self._columns.x.device
        pairs = self.distinct[rows.to(device)], self.distinct[others.to(device)]
        distance2, moved2 = torch.stack(score_pairs(self._columns, *pairs)).cpu()
        return distance2.sqrt(), (moved2 / distance2).sqrt()

    @property
    def _vanishing(self) -> float:
        """Squared distances up to this size may have lost digits to underflow of their squares."""
        return 1e8 * self._columns.ambient_dimension * torch.finfo(self._columns.dtype).tiny

    @cached_property
    def _proposals(self) -> tuple[Float[Tensor, "n c"], Int[Tensor, "n c"]]:
        """Nearest three rows, equal rows among them: enough for order 2 unless there are such."""
        return self._proposer.ranked(None, None, min(3, self._columns.n_samples - 1))

    def _candidates(self, k: int) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """Nearest *distinct* rows of every distinct row."""
        estimates, candidates = self._proposals
        if len(self.distinct) == self._columns.n_samples:
            if k <= estimates.shape[1]:
                return estimates[:, :k], candidates[:, :k]
            return self._proposer.ranked(None, None, k)
        return self._proposer.ranked(self.distinct, self.distinct, k)

    def _sound(
        self,
        distance2: Float[Tensor, "m k"],
        rest: Float[Tensor, " m"],
        norm2: Float[Tensor, " m"],
        dtype: torch.dtype,
        tolerance: float = 0.0,
    ) -> Bool[Tensor, " m"]:
        """Tell the rows for which no row outside the candidates can be nearer."""
        # Put so that NaN and infinity, in the norm or the estimate, are not sound.
        furthest = distance2[:, -1]
        bound = self._bound(norm2, furthest, dtype)
        beyond_reach = (rest > furthest + bound) | (bound <= tolerance * distance2[:, 0])
        return beyond_reach & furthest.isfinite()

    def _doubtful(self, sound: Bool[Tensor, " m"]) -> Int[Tensor, " f"]:
        """Return the numbers of the rows that are not sound: one synchronisation."""
        return self._columns.sum((~sound).int()).nonzero()[:, 0]

    def _bound(
        self, norm2: Float[Tensor, " m"], distance2: Float[Tensor, " m"], dtype: torch.dtype
    ) -> Float[Tensor, " m"]:
        """Return the error of a squared distance read off the Gram matrix, for rows no further.

        A dot product of b terms is wrong by about 8 sqrt(b) roundings with overwhelming
        probability, the sum over the blocks by one each; a row within ``distance2`` is no longer
        than the row itself plus that distance. Products below the smallest normal number have few
        digits or are flushed to 0: each of four sums of products loses up to so much a column.
        """
        width = block_width(self._columns.ambient_dimension)
        n_blocks = math.ceil(self._columns.ambient_dimension / width)
        eta = torch.finfo(dtype).eps / 2 * (8 * math.sqrt(width) + n_blocks + 4)
        relative = eta * (2 * norm2.sqrt() + distance2.sqrt()).square()
        return relative + 4 * self._columns.ambient_dimension * torch.finfo(dtype).tiny

    def _look_wider(
        self,
        distance2: Float[Tensor, "m k"],
        index: Int[Tensor, "m k"],
        doubt: Int[Tensor, " f"],
        candidates: Int[Tensor, "f c"],
        rest: Float[Tensor, " f"],
        norm2: Float[Tensor, " f"],
        dtype: torch.dtype,
    ) -> Int[Tensor, " g"]:
        """Redo the rows in doubt, in place, from more candidates; return those still in doubt."""
        near2, near = nearest(
            self._columns, self.distinct[doubt], candidates, distance2.shape[1], torch.float64
        )
        distance2[doubt], index[doubt] = near2, near
        return doubt[self._doubtful(self._sound(near2, rest, norm2, dtype))]

    def _look_closer(
        self,
        distance2: Float[Tensor, "m k"],
        index: Int[Tensor, "m k"],
        doubt: Int[Tensor, " f"],
        wide: int,
    ) -> Int[Tensor, " g"]:
        """Redo the rows in doubt, in place, from float64 products; return those still in doubt."""
        chunk = max(1, 2**26 // self._columns.n_samples)  # 512 MB of products at a time
        parts = [
            self._look_closer_at(distance2, index, part, wide) for part in torch.split(doubt, chunk)
        ]
        return torch.cat(parts)

    def _look_closer_at(
        self,
        distance2: Float[Tensor, "m k"],
        index: Int[Tensor, "m k"],
        doubt: Int[Tensor, " f"],
        wide: int,
    ) -> Int[Tensor, " g"]:
        distinct = self.distinct
        rows = distinct[doubt]
        products = self._columns.x.new_zeros(
            (len(rows), self._columns.n_samples), dtype=torch.float64
        )
        norm2 = self._columns.x.new_zeros(self._columns.n_samples, dtype=torch.float64)
        for block in self._columns.blocks():
            centred = self._columns.centred(block, torch.float64)
            products += centred[rows] @ centred.T
            norm2 += centred.square().sum(1)
        products, norm2 = self._columns.sum(products), self._columns.sum(norm2)
        most = len(distinct) - 1
        estimates, candidates = rank(products, rows, distinct, min(wide + 1, most), norm2)
        rest = estimates[:, wide] if wide < most else torch.full_like(norm2[rows], math.inf)
        near2, near = nearest(
            self._columns, rows, candidates[:, :wide], distance2.shape[1], torch.float64
        )
        distance2[doubt], index[doubt] = near2, near
        sound = self._sound(near2, rest, norm2[rows], torch.float64, _TOLERANCE)
        return doubt[self._doubtful(sound)]

    def _brute_force(
        self, rows: Int[Tensor, " f"], k: int
    ) -> tuple[Float[Tensor, "f k"], Int[Tensor, "f k"]]:
        """Compare each of the rows with every distinct row, in float64 differences."""
        distance2 = self._columns.x.new_zeros((len(rows), len(self.distinct)), dtype=torch.float64)
        for block in self._columns.blocks():
            others = self._columns.x[self.distinct, block].double()
            # Gathered in one go: x[row] with a row number on a GPU would wait for the GPU.
            for i, mine in enumerate(self._columns.x[rows, block].double()):
                difference = others - mine
                distance2[i] += torch.linalg.vecdot(difference, difference)
        distance2 = self._columns.sum(distance2)
        distance2[self.distinct == rows[:, None]] = math.inf
        nearest, at = distance2.topk(k, dim=1, largest=False)
        return nearest, self.distinct[at]
