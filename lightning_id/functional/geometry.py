"""The geometry of the rows of one layer: Gram matrix, nearest distances, spectrum.

One convention of shapes throughout: ``x`` is (n, d), n rows (samples) of d columns (features).
Everything needed is a sum over the columns: the mean is per column, the Gram matrix and the exact
distance of a pair are sums over blocks of columns. So one block of columns at a time is enough, and
the n x n Gram matrix is the only big thing that is made.

The neighbours are exact. The float32 Gram matrix only *proposes* candidates; their distances are
computed again from the rows as they came, by differences, and a row is accepted only when no other
row can be nearer within the error bound of the Gram matrix. What fails the bound is looked at again
with more candidates, then in float64, then by brute force.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_id.functional.duplicates import repeats_an_earlier_row
from lightning_id.functional.estimate import Estimate
from lightning_id.functional.precision import exact_arithmetic
from lightning_id.functional.products import (
    add_triangle,
    block_width,
    column_blocks,
    mirror_triangle,
)
from lightning_id.functional.ranking import nearest, rank

CANDIDATES = 5  # neighbours proposed for a row when those that are nearest leave a doubt
LARGEST_GRAM = 50_000  # rows; their n x n matrix takes 10 GB
EXACT_ORDERS = 16  # up to this order every distance comes from differences, above only in doubt
MIN_DISTINCT = 3  # a point and its two nearest neighbours

# float32 products of differences this small or smaller may have lost terms to underflow.
_UNDERFLOW = 1e-30
# A float64 distance whose squared error is below this share of it is taken: log mu is then right to
# 1e-6 in the worst case seen (ID 100). It matters where many distances tie and none stands out.
_TOLERANCE = 1e-8
# The same for a distance above order 16, which is itself read off the float64 products. log mu is
# then large against the error.
_FAR_TOLERANCE = 1e-6
# Beyond, the squares and fourth powers of float64 rows leave float64. float32 rows cannot get
# there.
_LARGEST_SPREAD = 1e60


@dataclass(frozen=True)
class Neighbors:
    """The nearest neighbours of every distinct row.

    Attributes:
        distances: (m, k) float64 on the CPU, ascending; m distinct rows, k orders.
        indices: (m, k) number of the neighbour among the m distinct rows.
    """

    distances: Float[Tensor, "m k"]
    indices: Int[Tensor, "m k"]


class Geometry:
    """Gram matrix, nearest distances and spectrum of rows, each made once and when first asked for.

    Args:
        x: (n, d) rows of any floating dtype on any device. float16 and bfloat16 are computed in
            float32, float64 in float64. The tensor is kept, not copied: leave it unchanged.

    Attributes:
        x: The rows.
        n_samples: Rows, n.
        ambient_dimension: Columns, d.
        dtype: Name of the dtype the rows came in.
        backend: What makes the neighbours and the spectrum; ``"gram"``.

    Memory beside ``x``: one n x n matrix and one block of n x 4096; for neighbours above order 16 a
    second n x n matrix, in float64, for as long as they are searched. For more than 50 000 rows
    `lightning_id.functional.faiss_search.FaissGeometry` does without the matrix.

    Raises:
        ValueError: If ``x`` is not a dense two-dimensional floating tensor with at least one
            column, or has more than 50 000 rows.

    Example:
        >>> import torch
        >>> from lightning_id.functional import Geometry, twonn_dimension, pca_dimension
        >>> generator = torch.Generator().manual_seed(0)
        >>> plane = torch.randn(500, 2, generator=generator) @ torch.eye(2, 50)
        >>> geometry = Geometry(plane)
        >>> round(float(twonn_dimension(geometry)), 1), int(float(pca_dimension(geometry)))
        (2.0, 2)
    """

    backend = "gram"
    largest: int | None = LARGEST_GRAM

    def __init__(self, x: Tensor) -> None:
        self.x = _checked(x)
        if self.largest is not None and len(x) > self.largest:
            raise ValueError(
                f"`x`: expected at most {self.largest} rows, got {len(x)}, whose n x n matrix would"
                f" take {4e-9 * len(x) ** 2:.0f} GB; measure a sample of them, or give"
                " lightning_id.functional.faiss_search.FaissGeometry(x) in place of x"
            )
        self.n_samples, self.ambient_dimension = self.x.shape
        self.dtype = str(x.dtype).removeprefix("torch.")
        self._compute_dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        self._found: Neighbors | None = None
        self._spectra: dict[bool, Float[Tensor, " r"]] = {}

    @cached_property
    def reason(self) -> str | None:
        """Why no number can be had from these rows, or None."""
        if self.n_samples < MIN_DISTINCT:
            return f"expected at least {MIN_DISTINCT} rows, got {self.n_samples}"
        bad = self._n_nonfinite
        if bad:
            return f"{bad} of {self.n_samples} rows hold NaN or infinite values"
        if self._compute_dtype == torch.float64:
            spread = self._spread
            if spread > _LARGEST_SPREAD or 0 < spread < 1 / _LARGEST_SPREAD:
                return (
                    f"the rows spread over {spread:.0e}, and squares of that leave float64;"
                    " rescale them"
                )
        return None

    @cached_property
    def neighbor_reason(self) -> str | None:
        """Why the rows have no nearest neighbours to measure, or None."""
        if self.reason is not None:
            return self.reason
        distinct = len(self.distinct)
        if distinct < MIN_DISTINCT:
            return (
                f"expected at least {MIN_DISTINCT} distinct rows, got {distinct}"
                f" (of {self.n_samples}; {self.n_duplicates} repeat another row)"
            )
        return None

    @property
    def n_duplicates(self) -> int:
        """Rows that equal an earlier row."""
        return 0 if self.reason is not None else self.n_samples - len(self.distinct)

    @cached_property
    def distinct(self) -> Int[Tensor, " m"]:
        """Numbers of the rows that do not repeat an earlier one, ascending."""
        with exact_arithmetic(self.x.device):
            return self._distinct_rows()

    def neighbors(self, k: int = 2) -> Neighbors:
        """Return the k nearest neighbours of every distinct row, by Euclidean distance.

        Distances up to order 16 are sums of squared differences of the rows as they came, exact to
        float64 rounding of float32 differences; higher orders come from a float64 Gram matrix where
        that is right to 1e-6, and from differences elsewhere.

        Args:
            k: How many neighbours, from 1 to the number of distinct rows - 1.

        Returns:
            Distances and indices.

        Raises:
            ValueError: If there are no neighbours to measure, or not k of them.
        """
        if self.neighbor_reason is not None:
            raise ValueError(self.neighbor_reason)
        most = len(self.distinct) - 1
        if not 1 <= k <= most:
            raise ValueError(f"`k`: expected 1 to {most} (distinct rows - 1), got {k}")
        if self._found is None or self._found.distances.shape[1] < k:
            with exact_arithmetic(self.x.device):
                self._found = self._search(k)
        return Neighbors(self._found.distances[:, :k], self._found.indices[:, :k])

    def spectrum(self, standardize: bool = False) -> Float[Tensor, " r"]:
        """Return the eigenvalues of the covariance of the rows, largest first.

        From the n x n Gram matrix where d > n, from the d x d covariance otherwise; every row
        counts, repeated ones too.

        Args:
            standardize: Scale every column to unit variance first (the correlation matrix); columns
                without variance stay zero.

        Returns:
            min(n, d) eigenvalues in float64 on the CPU, with n - 1 as the divisor. The smallest may
            be slightly negative by rounding.

        Raises:
            ValueError: If there are fewer than three rows, or NaN or infinite ones.
        """
        if self.reason is not None:
            raise ValueError(self.reason)
        if standardize not in self._spectra:
            with exact_arithmetic(self.x.device):
                moment = self._second_moment(standardize)
                values = torch.linalg.eigvalsh(moment).flip(0) / (self.n_samples - 1)
            self._spectra[standardize] = values.double().cpu()
        return self._spectra[standardize]

    @property
    def known_spectrum(self) -> Float[Tensor, " r"] | None:
        """The spectrum, not standardised, if it was asked for before; None otherwise."""
        return self._spectra.get(False)

    def moments(self, standardize: bool = False) -> tuple[float, float]:
        """Return trace and squared Frobenius norm of the covariance, without its eigenvalues.

        Args:
            standardize: As in `spectrum`.

        Returns:
            Sum of the eigenvalues and sum of their squares.

        Raises:
            ValueError: If there are fewer than three rows, or NaN or infinite ones.
        """
        if self.reason is not None:
            raise ValueError(self.reason)
        with exact_arithmetic(self.x.device):
            moment = self._second_moment(standardize) / (self.n_samples - 1)
            trace = moment.diagonal().sum(dtype=torch.float64)
            square = torch.linalg.vector_norm(moment, dtype=torch.float64).square()
            trace, square = torch.stack((trace, square)).tolist()
        return trace, square

    def estimate(self, *, distinct: bool) -> Estimate:
        """Return what is known of the rows before anything is estimated.

        Args:
            distinct: Whether the estimator looks at the distinct rows only.

        Returns:
            An estimate without a value, to be completed by an estimator; ``reason`` says why it
            must stay empty, or is None.
        """
        return Estimate(
            n_samples=self.n_samples,
            n_duplicates=self.n_duplicates if distinct else 0,
            dtype=self.dtype,
            backend=self.backend,
            reason=self.neighbor_reason if distinct else self.reason,
        )

    def estimate_of_order(self, k: int) -> Estimate:
        """Return what is known of the rows before anything is estimated from k neighbours.

        Args:
            k: Neighbours needed of every distinct row.

        Returns:
            An estimate without a value; ``reason`` says that there are too few distinct rows, if
            so.
        """
        estimate = self.estimate(distinct=True)
        if estimate.reason is None and len(self.distinct) <= k:
            return replace(
                estimate,
                reason=f"expected more than {k} distinct rows, for {k} neighbours each,"
                f" got {len(self.distinct)}",
            )
        return estimate

    def subset(self, index: Int[Tensor, " s"]) -> "Geometry":
        """Return the geometry of some of the rows, with the part of the Gram matrix that is theirs.

        Args:
            index: Numbers of the rows, on the device of ``x``.

        Returns:
            The geometry; only its products with the columns are saved, all else is its own.
        """
        part = Geometry(self.x[index])
        with exact_arithmetic(self.x.device):
            # Centred at the mean of all rows, which neighbours do not depend on and the spectrum
            # corrects for.
            part.__dict__["_means"] = self._means
            part.__dict__["_gram"] = self._gram[index[:, None], index]
        return part

    def settle(self, ok: bool = True) -> None:
        """Tell the processes that share the work whether it went well here: there are none.

        Args:
            ok: Whether it did.
        """

    # --- sums over the columns -------------------------------------------------------------------

    # `x` may hold only some of the columns: see `lightning_id.functional.sharded`.

    def _sum(self, partial: Tensor) -> Tensor:
        """Complete, in place, a sum over the columns that are here."""
        return partial

    @property
    def _has_gram_spectrum(self) -> bool:
        """Whether the spectrum comes from the n x n matrix, and not from the d x d one."""
        return self.ambient_dimension > self.n_samples

    def _column_blocks(self) -> Iterator[slice]:
        return column_blocks(self.x.shape[1])

    @cached_property
    def _means(self) -> Float[Tensor, " d"]:
        """Mean of every column, in the dtype of computation."""
        if self._has_gram_spectrum:
            return self._gram_and_means[1]  # all that follows needs the Gram matrix: one pass less
        dtype = self._compute_dtype
        return torch.cat([self.x[:, block].to(dtype).mean(0) for block in self._column_blocks()])

    @cached_property
    def _gram(self) -> Float[Tensor, "n n"]:
        if self._has_gram_spectrum:
            return self._gram_and_means[0]
        return self._gram_matrix(self._compute_dtype)

    @cached_property
    def _gram_and_means(self) -> tuple[Float[Tensor, "n n"], Float[Tensor, " d"]]:
        """Both from one pass over the columns."""
        means = self.x.new_empty(self.x.shape[1], dtype=self._compute_dtype)
        return self._gram_matrix(self._compute_dtype, means), means

    def _gram_matrix(
        self, dtype: torch.dtype, means: Float[Tensor, " d"] | None = None
    ) -> Float[Tensor, "n n"]:
        """Return the products of the centred rows; write the means to ``means``, if given."""
        gram = self._new_gram(dtype)
        # One block of memory for all: fresh ones of this size cost page faults, and malloc does not
        # find them again (1.5 GB lost over 200 704 columns in float16).
        work = self.x.new_empty((self.n_samples, block_width(self.x.shape[1])), dtype=dtype)
        for block in self._column_blocks():
            centred = work[:, : block.stop - block.start]
            if means is None:
                self._centre(block, centred)
            else:
                same = self.x.dtype == dtype
                rows = self.x[:, block] if same else centred.copy_(self.x[:, block])
                means[block] = rows.mean(0)
                torch.sub(rows, means[block], out=centred)
            add_triangle(gram, centred, first=block.start == 0)
        return mirror_triangle(self._sum(gram))

    def _new_gram(self, dtype: torch.dtype) -> Float[Tensor, "n n"]:
        shape = self.n_samples, self.n_samples
        some = self.x.shape[1] > 0
        return (
            self.x.new_empty(shape, dtype=dtype) if some else self.x.new_zeros(shape, dtype=dtype)
        )

    def _centre(self, block: slice, out: Float[Tensor, "n b"]) -> Float[Tensor, "n b"]:
        """Write the centred columns of a block to ``out`` and hand it back."""
        # Without centring, float32 products lose the neighbours as soon as the features have an
        # offset: 1928 of 2000 nearest distances come out as 0 at mean 10 and standard deviation
        # 0.01.
        return torch.sub(self.x[:, block], self._means[block].to(out.dtype), out=out)

    def _centred(self, block: slice, dtype: torch.dtype) -> Float[Tensor, "n b"]:
        shape = self.n_samples, block.stop - block.start
        return self._centre(block, self.x.new_empty(shape, dtype=dtype))

    @cached_property
    def _n_nonfinite(self) -> int:
        """Rows that hold NaN or infinity: one synchronisation, more only if there are any."""
        with exact_arithmetic(self.x.device):
            if not bool(self._sum((~self._means.isfinite()).sum())):
                return 0
            counts = torch.zeros(self.n_samples, dtype=torch.int64, device=self.x.device)
            for block in self._column_blocks():
                counts += (~self.x[:, block].isfinite()).sum(1)
            bad = self._sum(counts) > 0
            if not bool(bad.any()):  # the sums overflow, the values do not
                means = [self.x[:, block].double().mean(0) for block in self._column_blocks()]
                self._means = torch.cat([self._means[:0], *means]).to(self._compute_dtype)
            return int(bad.sum())

    @cached_property
    def _spread(self) -> float:
        """Size of the largest difference from the first row: one synchronisation."""
        with exact_arithmetic(self.x.device):
            largest = torch.zeros(self.n_samples, dtype=self.x.dtype, device=self.x.device)
            for block in self._column_blocks():
                torch.maximum(
                    largest, (self.x[:, block] - self.x[0, block]).abs().amax(1), out=largest
                )
            # Of columns in several places the sum: a bound on the size of squares is all it is for.
            return float(self._sum(largest).amax())

    @cached_property
    def _is_constant(self) -> bool:
        """Whether all rows are equal: their covariance would come out as roundings, not zeros."""
        if bool(self._sum((self.x[0] != self.x[-1]).sum())):  # one row tells nearly always
            return False
        others = torch.zeros((), dtype=torch.int64, device=self.x.device)
        for block in self._column_blocks():
            others += (self.x[:, block] != self.x[0, block]).sum()
        return not bool(self._sum(others))

    # --- neighbours ------------------------------------------------------------------------------

    def _bound(
        self, norm2: Float[Tensor, " m"], distance2: Float[Tensor, " m"], dtype: torch.dtype
    ) -> Float[Tensor, " m"]:
        """Return the error of a squared distance read off the Gram matrix, for rows no further.

        A dot product of b terms is wrong by about 8 sqrt(b) roundings with overwhelming
        probability, the sum over the blocks by one each; a row within ``distance2`` is no longer
        than the row itself plus that distance.
        """
        width = block_width(self.ambient_dimension)
        n_blocks = math.ceil(self.ambient_dimension / width)
        eta = torch.finfo(dtype).eps / 2 * (8 * math.sqrt(width) + n_blocks + 4)
        return eta * (2 * norm2.sqrt() + distance2.sqrt()).square()

    # What a backend replaces: squared norms of the centred rows, and which rows are nearest by its
    # reckoning, in `_proposal_dtype`.

    @property
    def _proposal_dtype(self) -> torch.dtype:
        return self._compute_dtype

    @property
    def _norm2(self) -> Float[Tensor, " n"]:
        return self._gram.diagonal()

    def _ranked(
        self, rows: Int[Tensor, " m"] | None, columns: Int[Tensor, " c"] | None, k: int
    ) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """Propose the k nearest of ``columns`` for each of ``rows``; None is all rows."""
        return rank(self._gram, rows, columns, k)

    @cached_property
    def _proposals(self) -> tuple[Float[Tensor, "n c"], Int[Tensor, "n c"]]:
        """Nearest three rows, equal rows among them: enough for order 2 unless there are such."""
        return self._ranked(None, None, min(3, self.n_samples - 1))

    def _candidates(self, k: int) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """Nearest *distinct* rows of every distinct row."""
        estimates, candidates = self._proposals
        if len(self.distinct) == self.n_samples:
            if k <= estimates.shape[1]:
                return estimates[:, :k], candidates[:, :k]
            return self._ranked(None, None, k)
        return self._ranked(self.distinct, self.distinct, k)

    def _distinct_rows(self) -> Int[Tensor, " m"]:
        """Find equal rows among those whose nearest distance could be 0. Two synchronisations."""
        estimates, _ = self._proposals
        norm2 = self._norm2.double()
        bound = self._bound(norm2, torch.zeros_like(norm2), self._proposal_dtype)
        suspects = (~(estimates[:, 0] > bound)).nonzero()[:, 0]
        repeats = torch.zeros(self.n_samples, dtype=torch.bool, device=self.x.device)
        if len(suspects):
            repeats[suspects] = repeats_an_earlier_row(self.x[suspects], self._sum)
        return (~repeats).nonzero()[:, 0]

    def _search(self, k: int) -> Neighbors:
        """Find the k nearest among the distinct rows; positions count the distinct rows only."""
        distinct = self.distinct
        find = self._propose_and_check if k <= EXACT_ORDERS else self._many
        distance2, index = find(k)
        position = torch.full((self.n_samples,), -1, device=self.x.device)
        position[distinct] = torch.arange(len(distinct), device=self.x.device)
        return Neighbors(distance2.sqrt().cpu(), position[index].cpu())

    def _many(self, k: int) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """Return k neighbours where differences for all are too slow (3 times, at 64 x 21632)."""
        distinct = self.distinct
        most = len(distinct) - 1
        wide = min(k + 6, most)
        gram = self._gram_matrix(torch.float64)
        estimates, candidates = rank(gram, distinct, distinct, min(wide + 1, most))
        norm2 = gram.diagonal()[distinct]
        distance2, index = estimates[:, :k].clone(), candidates[:, :k].clone()
        unknown = torch.full_like(norm2, -math.inf)  # products are taken only where they are right
        sound = self._sound(distance2[:, EXACT_ORDERS:], unknown, norm2, gram.dtype, _FAR_TOLERANCE)
        distance2[:, :EXACT_ORDERS], index[:, :EXACT_ORDERS] = nearest(
            self._sum, self.x, distinct, index[:, :EXACT_ORDERS], EXACT_ORDERS, self._compute_dtype
        )
        doubt = self._doubtful(sound & (distance2[:, 0] > _UNDERFLOW))
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
        dtype = self._proposal_dtype
        estimates, candidates = self._candidates(min(k + 1, most))
        norm2 = self._norm2[distinct].double()

        distance2, index = nearest(
            self._sum, self.x, distinct, candidates[:, :k], k, self._compute_dtype
        )
        rest = estimates[:, k] if k < most else torch.full_like(norm2, math.inf)
        sound = self._sound(distance2, rest, norm2, dtype)
        doubt = self._doubtful(sound & (distance2[:, 0] > _UNDERFLOW))
        wide = min(max(CANDIDATES, k + 3), most)
        if len(doubt):
            estimates, candidates = self._ranked(distinct[doubt], distinct, min(wide + 1, most))
            rest = estimates[:, wide] if wide < most else torch.full_like(norm2[doubt], math.inf)
            doubt = self._look_wider(
                distance2, index, doubt, candidates[:, :wide], rest, norm2[doubt], dtype
            )
        if len(doubt):
            doubt = self._look_closer(distance2, index, doubt, wide)
        if len(doubt):
            distance2[doubt], index[doubt] = self._brute_force(distinct[doubt], k)
        return distance2, index

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
        return self._sum((~sound).int()).nonzero()[:, 0]

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
            self._sum, self.x, self.distinct[doubt], candidates, distance2.shape[1], torch.float64
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
        chunk = max(1, 2**26 // self.n_samples)  # 512 MB of products at a time
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
        products = self.x.new_zeros((len(rows), self.n_samples), dtype=torch.float64)
        norm2 = self.x.new_zeros(self.n_samples, dtype=torch.float64)
        for block in self._column_blocks():
            centred = self._centred(block, torch.float64)
            products += centred[rows] @ centred.T
            norm2 += centred.square().sum(1)
        products, norm2 = self._sum(products), self._sum(norm2)
        most = len(distinct) - 1
        estimates, candidates = rank(products, rows, distinct, min(wide + 1, most), norm2)
        rest = estimates[:, wide] if wide < most else torch.full_like(norm2[rows], math.inf)
        near2, near = nearest(
            self._sum, self.x, rows, candidates[:, :wide], distance2.shape[1], torch.float64
        )
        distance2[doubt], index[doubt] = near2, near
        sound = self._sound(near2, rest, norm2[rows], torch.float64, _TOLERANCE)
        return doubt[self._doubtful(sound)]

    def _brute_force(
        self, rows: Int[Tensor, " f"], k: int
    ) -> tuple[Float[Tensor, "f k"], Int[Tensor, "f k"]]:
        """Compare each of the rows with every distinct row, in float64 differences."""
        distance2 = self.x.new_zeros((len(rows), len(self.distinct)), dtype=torch.float64)
        for block in self._column_blocks():
            others = self.x[self.distinct, block].double()
            # Gathered in one go: x[row] with a row number on a GPU would wait for the GPU.
            for i, mine in enumerate(self.x[rows, block].double()):
                difference = others - mine
                distance2[i] += torch.linalg.vecdot(difference, difference)
        distance2 = self._sum(distance2)
        distance2[self.distinct == rows[:, None]] = math.inf
        nearest, at = distance2.topk(k, dim=1, largest=False)
        return nearest, self.distinct[at]

    # --- spectrum --------------------------------------------------------------------------------

    def _second_moment(self, standardize: bool) -> Float[Tensor, "r r"]:
        """Return centred X Xᵀ or XᵀX, the smaller; they share their non-zero eigenvalues."""
        if self._is_constant:
            size = min(self.n_samples, self.ambient_dimension)
            return self.x.new_zeros((size, size), dtype=self._compute_dtype)
        moment = self._second_moment_in(self._compute_dtype, standardize)
        if self._compute_dtype == torch.float32 and self._left_float32(moment):
            moment = self._second_moment_in(torch.float64, standardize)
        return moment

    def _left_float32(self, moment: Float[Tensor, "r r"]) -> bool:
        """Whether squares overflowed (from 1e19) or vanished (from 1e-19): one synchronisation."""
        trace = moment.diagonal().sum()
        return not bool(trace.isfinite() & (trace > _UNDERFLOW))

    def _second_moment_in(self, dtype: torch.dtype, standardize: bool) -> Float[Tensor, "r r"]:
        if self._has_gram_spectrum:
            if standardize:
                moment = self._standardized_gram(dtype)
            else:
                same = dtype == self._compute_dtype
                moment = self._gram if same else self._gram_matrix(dtype)
            # The float32 means are wrong by a rounding, which is a direction of its own under a
            # large offset; subtracting the means of the rows and columns removes it.
            mean = moment.mean(0, dtype=torch.float64)
            shift = (mean - mean.mean() / 2).to(dtype)
            return moment - shift - shift[:, None]
        centred = self._centred(slice(0, self.ambient_dimension), dtype)
        centred -= centred.mean(0)
        if standardize:
            centred *= _inverse_deviation(centred)
        moment = centred.new_empty((self.ambient_dimension, self.ambient_dimension))
        return mirror_triangle(add_triangle(moment, centred.T, first=True))

    def _standardized_gram(self, dtype: torch.dtype) -> Float[Tensor, "n n"]:
        gram = self._new_gram(dtype)
        for block in self._column_blocks():
            centred = self._centred(block, dtype)
            centred -= centred.mean(0)
            centred *= _inverse_deviation(centred)
            add_triangle(gram, centred, first=block.start == 0)
        return mirror_triangle(self._sum(gram))


def as_geometry(x: Tensor | Geometry) -> Geometry:
    """Return ``x`` itself if it is a `Geometry`, else the geometry of its rows.

    Args:
        x: Rows, or a geometry made from them.

    Returns:
        The geometry.
    """
    return x if isinstance(x, Geometry) else Geometry(x)


def _checked(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor):
        raise ValueError(
            f"`x`: expected a torch.Tensor, got {type(x).__name__}; torch.as_tensor makes one"
        )
    if x.layout != torch.strided or x.is_nested:
        raise ValueError(f"`x`: expected a dense tensor, got layout {x.layout}; use x.to_dense()")
    if not x.is_floating_point():
        raise ValueError(f"`x`: expected a floating dtype, got {x.dtype}; use x.float()")
    if x.ndim != 2:
        raise ValueError(
            f"`x`: expected shape (n, d), got {tuple(x.shape)};"
            " x.flatten(1) makes one row of each sample"
        )
    if x.shape[1] == 0:
        raise ValueError(f"`x`: expected at least one column, got shape {tuple(x.shape)}")
    x = x.detach()
    # MPS has no float64, and the sums need it; float8 has no arithmetic at all.
    x = x.cpu() if x.device.type == "mps" else x
    return x if x.element_size() > 1 else x.float()


def _inverse_deviation(centred: Float[Tensor, "n b"]) -> Float[Tensor, " b"]:
    # Equal values stay equal when the same mean is subtracted, but their deviation comes out as a
    # rounding instead of 0, and would be blown up to 1.
    constant = centred.amax(0) == centred.amin(0)
    return torch.where(constant, 0, 1 / centred.std(0))
