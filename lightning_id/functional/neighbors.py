"""The nearest neighbours of rows, exact: proposed quickly, then checked against an error bound.

A `Proposer`, by default the float32 Gram matrix, proposes candidates. Their distances are computed
again from the rows as they came, by differences, and a row is accepted only when no other row can
be nearer within the error bound of the proposer. Rows that fail are tried again with more
candidates, then in float64, then by brute force.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_id.functional.columns import Columns
from lightning_id.functional.products import block_width
from lightning_id.functional.ranking import Ranked, nearest, rank, score_pairs

CANDIDATES = 5  # neighbours proposed for a row when the nearest ones leave it uncertain
EXACT_ORDERS = 16  # up to this order all distances are differences, above only of uncertain rows

# A float64 distance whose squared error is below this share of it is accepted: log mu is then right
# to 1e-6 in the worst case seen (ID 100). It matters where many distances tie and none stands out.
_TOLERANCE = 1e-8
# The same for a distance above order 16, which comes from the float64 products itself. log mu is
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


@dataclass(frozen=True)
class Candidates:
    """Candidate neighbours of some rows, by squared distances read off products."""

    estimates: Float[Tensor, "m k"]  # squared distances in float64, ascending
    index: Int[Tensor, "m k"]  # numbers of the candidates
    rest: Float[Tensor, " m"]  # squared distance of the nearest other row; infinite without one
    norm2: Float[Tensor, " m"]  # squared norms of the rows, in float64
    dtype: torch.dtype  # of the products: the error bound follows from it


class Proposer(ABC):
    """Proposes candidate neighbours from approximate distances."""

    columns: Columns  # the rows
    backend: str  # its name, in every `Estimate`
    dtype: torch.dtype  # of the products: the error bound follows from it
    has_products: bool  # an n x n matrix of float64 products may be made, for orders above 16

    @property
    @abstractmethod
    def norm2(self) -> Float[Tensor, " n"]:
        """Squared norms of the centred rows."""

    @abstractmethod
    def ranked(
        self, rows: Int[Tensor, " m"] | None, columns: Int[Tensor, " c"] | None, k: int
    ) -> Ranked:
        """Return the k nearest of ``columns`` for each of ``rows``: see `ranking.rank`."""

    @abstractmethod
    def subset(self, index: Int[Tensor, " s"]) -> "Proposer":
        """Return the proposer of some of the rows."""


class GramProposer(Proposer):
    """Proposes by the Gram matrix of the rows."""

    backend = "gram"
    has_products = True

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.dtype = columns.dtype

    @property
    def norm2(self) -> Float[Tensor, " n"]:
        """Squared norms of the centred rows."""
        return self.columns.gram.diagonal()

    def ranked(
        self, rows: Int[Tensor, " m"] | None, columns: Int[Tensor, " c"] | None, k: int
    ) -> Ranked:
        """Return the k nearest of ``columns`` for each of ``rows``."""
        return rank(self.columns.gram, rows, columns, k)

    def subset(self, index: Int[Tensor, " s"]) -> "GramProposer":
        """Return the proposer of some of the rows, with their part of the Gram matrix."""
        return GramProposer(self.columns.subset(index))


class NeighborSearch:
    """The distinct rows and their nearest neighbours.

    Its methods expect `lightning_id.functional.precision.exact_arithmetic`. Rows that are uncertain
    are numbered among the distinct rows.
    """

    def __init__(self, proposer: Proposer) -> None:
        self.proposer = proposer
        self._columns = proposer.columns
        self._readings = proposer.columns.readings
        # By `look_ahead`, until the next search: neighbours, and which rows are uncertain.
        self._attempted: tuple[Ranked, Bool[Tensor, " m"]] | None = None
        self._is_scored = False  # by `look_ahead`, all rows and their neighbours

    def look_ahead(self, k: int) -> None:
        """Add to the next reading the k nearest of every row, right if no row repeats another."""
        is_suspect = self._is_suspect
        self._columns.look_ahead()
        is_here = self._reads_for_nothing
        if k >= min(3, len(self._every) - 1) or (is_here and bool(is_suspect.any())):
            return
        self._attempted = self._attempt(k, self._every)
        if not is_here and self._columns.x.element_size() < 4:  # nearly all rows are scored then
            index = self._attempted[0].numbers
            scores = score_pairs(self._columns, self._every, index)
            self._readings.add(scores=torch.stack((*scores, index.double())))
            self._is_scored = True

    @cached_property
    def distinct(self) -> Int[Tensor, " m"]:
        """Numbers of the rows that repeat no earlier one, ascending."""
        is_suspect = self._is_suspect
        if not bool(self._readings["n_suspects"]):
            return self._every
        repeats = torch.zeros_like(is_suspect)
        suspects = is_suspect.nonzero()[:, 0]
        repeats[suspects] = self._columns.repeats(suspects)
        return (~repeats).nonzero()[:, 0]

    @cached_property
    def _is_suspect(self) -> Bool[Tensor, " n"]:
        """Rows whose nearest distance could be 0: only they are compared."""
        norm2 = self.proposer.norm2.double()
        bound = self.bound(norm2, torch.zeros_like(norm2), self.proposer.dtype)
        is_suspect = ~(self._proposals.distance2[:, 0] > bound)
        columns = self._columns
        centred2 = norm2.amax() + columns.ambient_dimension * torch.finfo(self.proposer.dtype).tiny
        mean2 = columns.all_reduce_sum(columns.first_means.double().square().sum())
        largest_norm = centred2.sqrt() + mean2.sqrt()
        self._readings.add(n_suspects=is_suspect.sum(), largest_norm=largest_norm)
        return is_suspect

    def find(self, k: int) -> Neighbors:
        """Return the k nearest among the distinct rows; k is 1 to the number of them less one."""
        attempt, self._attempted = self._attempted, None
        if k > EXACT_ORDERS and self.proposer.has_products:
            self._read(self._find_far(k))
        else:
            n_found = attempt[0].numbers.shape[1] if attempt else 0
            if attempt is None or n_found != k or len(self.distinct) < len(self._every):
                attempt = self._attempt(k, self.distinct)
            if bool(self._readings["n_uncertain"]):
                self._read(self._mended(*attempt))
        return Neighbors(self._readings["distance2"].sqrt(), self._readings["index"].long())

    def _attempt(self, k: int, distinct: Int[Tensor, " m"]) -> tuple[Ranked, Bool[Tensor, " m"]]:
        """Find neighbours by differences of the nearest candidates, and which are uncertain."""
        # Where another attempt would wait, more candidates leave hardly a row uncertain.
        n = k if self._reads_for_nothing else max(CANDIDATES, k + 3)
        candidates = self._propose(n, distinct, distinct)
        dtype = self._columns.dtype
        rows = None if distinct is self._every else distinct
        found = nearest(self._columns, rows, candidates.index, k, dtype)
        certain = self._is_certain(found.distance2, candidates) & self._has_digits(found)
        uncertain = self._columns.all_reduce_sum((~certain).int()) > 0
        self._readings.add(n_uncertain=uncertain.sum())
        self._read(found, distinct)
        return found, uncertain

    def _read(self, found: Ranked, distinct: Int[Tensor, " m"] | None = None) -> None:
        """Add neighbours, numbered among the distinct rows, to the next reading."""
        distinct = self.distinct if distinct is None else distinct
        index = found.numbers
        if distinct is not self._every:
            position = torch.full_like(self._every, -1)
            position[distinct] = torch.arange(len(distinct), device=distinct.device)
            index = position[index]
        self._readings.add(distance2=found.distance2, index=index)

    def _mended(self, found: Ranked, is_uncertain: Bool[Tensor, " m"]) -> Ranked:
        """Return the neighbours of an attempt, exact for the uncertain rows too."""
        uncertain = is_uncertain.nonzero()[:, 0]
        wide = max(CANDIDATES, found.numbers.shape[1] + 3)
        more = self._propose(wide, self.distinct[uncertain], self.distinct)
        uncertain = self._retry_with_more_candidates(found, uncertain, more)
        if len(uncertain):
            uncertain = self._retry_in_float64(found, uncertain, wide)
        if len(uncertain):
            self._brute_force(found, uncertain)
        return found

    def _find_far(self, k: int) -> Ranked:
        """Find neighbours where differences for all are too slow (3 times, at 64 x 21632)."""
        gram = self._columns.gram_matrix(torch.float64)
        ranked = rank(gram, self.distinct, self.distinct, _n_ranked(k + 6, self.distinct))
        candidates = _candidates(ranked, k + 6, gram.diagonal()[self.distinct], gram.dtype)
        near = slice(EXACT_ORDERS)
        found = Ranked(candidates.estimates[:, :k].clone(), candidates.index[:, :k].clone())
        # Distances are read off the products only where these are right, whatever the rest.
        error = self.bound(candidates.norm2, found.distance2[:, -1], gram.dtype)
        certain = error <= _FAR_TOLERANCE * found.distance2[:, EXACT_ORDERS]
        found.distance2[:, near], found.numbers[:, near] = nearest(
            self._columns, self.distinct, found.numbers[:, near], EXACT_ORDERS, self._columns.dtype
        )
        certain &= found.distance2.isfinite().all(1) & self._has_digits(found)
        uncertain = self._uncertain_rows(certain)
        if len(uncertain):
            some = Ranked(ranked.distance2[uncertain], ranked.numbers[uncertain])
            more = _candidates(some, k + 6, candidates.norm2[uncertain], gram.dtype)
            uncertain = self._retry_with_more_candidates(found, uncertain, more)
        if len(uncertain):
            self._brute_force(found, uncertain)
        return found

    @property
    def largest_norm(self) -> float:
        """A bound on the norm of a row, not centred; known once `distinct` is."""
        return float(self._readings["largest_norm"])

    @cached_property
    def _every(self) -> Int[Tensor, " n"]:
        return torch.arange(self._columns.n_samples, device=self._columns.x.device)

    def scores(
        self, rows: Int[Tensor, " s"], others: Int[Tensor, "s j"]
    ) -> tuple[Float[Tensor, "s j"], Float[Tensor, "s j"]]:
        """Return distances and sqrt(w) of pairs of distinct rows, on the CPU: see `score_pairs`."""
        if self._is_scored and len(self.distinct) == len(self._every):
            distance2, moved2, index = self._readings["scores"][:, rows]
            if torch.equal(index, others.double()):
                return distance2.sqrt(), (moved2 / distance2).sqrt()
        there = self._columns.x.device
        pairs = [self.distinct[each.to(there, non_blocking=True)] for each in (rows, others)]
        distance2, moved2 = torch.stack(score_pairs(self._columns, *pairs)).cpu()
        return distance2.sqrt(), (moved2 / distance2).sqrt()

    # --- candidates ------------------------------------------------------------------------------

    @cached_property
    def _proposals(self) -> Ranked:
        """Nearest rows, equal rows among them: enough for order 2 unless there are such."""
        n = 3 if self._reads_for_nothing else CANDIDATES + 1
        return self.proposer.ranked(None, None, min(n, self._columns.n_samples - 1))

    @property
    def _reads_for_nothing(self) -> bool:
        """Whether values can be read without waiting."""
        return self._columns.x.device.type == "cpu"

    def _propose(self, k: int, own: Int[Tensor, " f"], distinct: Int[Tensor, " m"]) -> Candidates:
        """Return k candidates, or all there are, among the distinct rows for some of them."""
        n_ranked = _n_ranked(k, distinct)
        if len(own) < self._columns.n_samples:
            ranked = self.proposer.ranked(own, distinct, n_ranked)
        elif n_ranked <= self._proposals.numbers.shape[1]:
            ranked = self._proposals
        else:
            ranked = self.proposer.ranked(None, None, n_ranked)
        return _candidates(ranked, k, self.proposer.norm2[own], self.proposer.dtype)

    # --- certainty -------------------------------------------------------------------------------

    def _is_certain(
        self, distance2: Float[Tensor, "m k"], candidates: Candidates, tolerance: float = 0.0
    ) -> Bool[Tensor, " m"]:
        """Return for which rows no row outside the candidates can be nearer."""
        # NaN and infinity, in the norm or the estimate, compare as False.
        furthest = distance2[:, -1]
        bound = self.bound(candidates.norm2, furthest, candidates.dtype)
        no_other = (candidates.rest > furthest + bound) | (bound <= tolerance * distance2[:, 0])
        return no_other & furthest.isfinite()

    def _has_digits(self, found: Ranked) -> Bool[Tensor, " m"]:
        """Return for which rows no squared distance has lost digits to underflow of its squares."""
        columns = self._columns
        vanishing = 1e8 * columns.ambient_dimension * torch.finfo(columns.dtype).tiny
        return found.distance2[:, 0] > vanishing

    def _uncertain_rows(self, certain: Bool[Tensor, " m"]) -> Int[Tensor, " f"]:
        """Return the numbers of the rows that are not certain: one synchronisation."""
        return self._columns.all_reduce_sum((~certain).int()).nonzero()[:, 0]

    def bound(
        self, norm2: Float[Tensor, " m"], distance2: Float[Tensor, " m"], dtype: torch.dtype
    ) -> Float[Tensor, " m"]:
        """Return the error of a squared distance by products, for rows up to that distance."""
        # A dot product of b terms is wrong by about 8 sqrt(b) roundings with overwhelming
        # probability, the sum over the blocks by one each. A row within the distance is no longer
        # than the row itself plus that distance. Products below the smallest normal number have few
        # digits or are flushed to 0: each of four sums of products loses up to it a column.
        width = block_width(self._columns.ambient_dimension)
        n_blocks = math.ceil(self._columns.ambient_dimension / width)
        eta = torch.finfo(dtype).eps / 2 * (8 * math.sqrt(width) + n_blocks + 4)
        relative = eta * (2 * norm2.sqrt() + distance2.sqrt()).square()
        return relative + 4 * self._columns.ambient_dimension * torch.finfo(dtype).tiny

    # --- uncertain rows --------------------------------------------------------------------------

    def _retry_with_more_candidates(
        self,
        found: Ranked,
        rows: Int[Tensor, " f"],
        candidates: Candidates,
        tolerance: float = 0.0,
    ) -> Int[Tensor, " g"]:
        """Find the neighbours of some rows by float64 differences; return the uncertain rows."""
        own = self.distinct[rows]
        distance2, index = nearest(
            self._columns, own, candidates.index, found.numbers.shape[1], torch.float64
        )
        found.distance2[rows], found.numbers[rows] = distance2, index
        return rows[self._uncertain_rows(self._is_certain(distance2, candidates, tolerance))]

    def _retry_in_float64(
        self, found: Ranked, rows: Int[Tensor, " f"], wide: int
    ) -> Int[Tensor, " g"]:
        """Find the neighbours of some rows by float64 products; return the uncertain rows."""
        chunk = max(1, 2**26 // self._columns.n_samples)  # 512 MB of products at a time
        uncertain = []
        for part in torch.split(rows, chunk):
            own = self.distinct[part]
            products, norm2 = self._columns.float64_products(own)
            ranked = rank(products, own, self.distinct, _n_ranked(wide, self.distinct), norm2)
            more = _candidates(ranked, wide, norm2[own], torch.float64)
            uncertain.append(self._retry_with_more_candidates(found, part, more, _TOLERANCE))
        return torch.cat(uncertain)

    def _brute_force(self, found: Ranked, rows: Int[Tensor, " f"]) -> None:
        """Compare each of the rows with every distinct row, in float64 differences."""
        x, own = self._columns.x, self.distinct[rows]
        distance2 = x.new_zeros((len(own), len(self.distinct)), dtype=torch.float64)
        for block in self._columns.blocks():
            others = x[self.distinct, block].double()
            # Gathered in one go: x[row] with a row number on a GPU would wait for the GPU.
            for i, mine in enumerate(x[own, block].double()):
                difference = others - mine
                distance2[i] += torch.linalg.vecdot(difference, difference)
        distance2 = self._columns.all_reduce_sum(distance2)
        distance2[self.distinct == own[:, None]] = math.inf
        found.distance2[rows], at = distance2.topk(found.numbers.shape[1], dim=1, largest=False)
        found.numbers[rows] = self.distinct[at]


def _n_ranked(k: int, distinct: Int[Tensor, " m"]) -> int:
    """Return k + 1: the row after the candidates is the rest; less if there are no more."""
    return min(k + 1, len(distinct) - 1)


def _candidates(
    ranked: Ranked, k: int, norm2: Float[Tensor, " m"], dtype: torch.dtype
) -> Candidates:
    """Return the first k of ranked rows as candidates, and the one after them as the rest."""
    estimates, index = ranked
    norm2 = norm2.double()
    rest = estimates[:, k] if estimates.shape[1] > k else torch.full_like(norm2, math.inf)
    return Candidates(estimates[:, :k], index[:, :k], rest, norm2, dtype)
