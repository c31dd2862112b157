"""Sums over the columns of rows, a block of columns at a time: means, products, second moments.

One convention of shapes throughout: ``x`` is (n, d), n rows (samples) of d columns (features).
Everything needed of a layer is a sum over its columns. So one block of columns at a time is enough,
the n x n Gram matrix is the only large array, and each rank may hold some of the columns only (see
`lightning_id.functional.sharded`).
"""

import weakref
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_id.functional.duplicates import repeats_an_earlier_row
from lightning_id.functional.products import (
    add_triangle,
    block_width,
    column_blocks,
    mirror_triangle,
)

# float32 sums of squares this small or smaller may have lost terms to underflow.
UNDERFLOW = 1e-30


class Readings:
    """Tensors by name, copied to the CPU all at once when the first one is needed.

    Every reading waits for all work that the device was given.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Tensor] = {}
        self._read: dict[str, Tensor] = {}

    def add(self, **values: Tensor) -> None:
        """Add tensors of integers or floating numbers to the next reading."""
        self._waiting |= values

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor in float64 on the CPU: one synchronisation, if it was not read before."""
        if name in self._waiting:
            values = self._waiting.values()
            joined = torch.cat([value.flatten().double() for value in values]).cpu()
            parts = torch.split(joined, [value.numel() for value in values])
            shapes = [value.shape for value in values]
            found = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
            self._read |= zip(self._waiting, found, strict=True)
            self._waiting.clear()
        return self._read[name]


class Columns:
    """Rows of which all columns are here, or only some; every sum is made once, at first use.

    Its methods expect `lightning_id.functional.precision.exact_arithmetic`. Of ``x`` there are
    ``ambient_dimension`` columns on all ranks; ``all_reduce`` adds, in place, the parts of the
    other ranks to a sum over them, and returns it. ``known`` are Gram matrix and means.
    """

    def __init__(
        self,
        x: Float[Tensor, "n b"],
        ambient_dimension: int | None = None,
        all_reduce: Callable[[Tensor], Tensor] | None = None,
        source_dtype: torch.dtype | None = None,
        known: tuple[Float[Tensor, "n n"], Float[Tensor, " b"]] | None = None,
        rank: int = 0,
    ) -> None:
        self.x = x if x.element_size() > 1 else x.float()  # float8 has no arithmetic
        self.n_samples = x.shape[0]
        self.ambient_dimension = x.shape[1] if ambient_dimension is None else ambient_dimension
        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.source_dtype = source_dtype or x.dtype  # in which the rows came
        # From the n x n matrix: the d x d one needs all columns in one place.
        self.has_gram_spectrum = all_reduce is not None or self.ambient_dimension > self.n_samples
        self.readings = Readings()  # numbers on the device that are read together
        self._all_reduce = all_reduce
        self._known = known
        self._rank = rank
        self._is_looked_ahead = False
        self._looked_at: Callable[[], Tensor | None] = lambda: None  # the last `_look_at`

    def all_reduce_sum(self, partial: Tensor) -> Tensor:
        """Complete, in place, a sum over the columns that are here."""
        return partial if self._all_reduce is None else self._all_reduce(partial)

    def subset(self, index: Int[Tensor, " s"]) -> "Columns":
        """Return some of the rows, with their part of the Gram matrix.

        They stay centred at the mean of all rows: neighbours do not depend on it, and the spectrum
        corrects for it.
        """
        known = self.gram[index[:, None], index], self.means
        dimension, dtype = self.ambient_dimension, self.source_dtype
        return Columns(self.x[index], dimension, self._all_reduce, dtype, known, self._rank)

    # --- means and products ----------------------------------------------------------------------

    @cached_property
    def means(self) -> Float[Tensor, " b"]:
        """Mean of every column that is here, in the dtype of computation."""
        if self._has_finite_means:
            return self.first_means
        means = [self.x[:, block].double().mean(0) for block in self.blocks()]
        return torch.cat([self.first_means[:0], *means]).to(self.dtype)

    @cached_property
    def first_means(self) -> Float[Tensor, " b"]:
        """Means by sums in the dtype of computation, which overflow before the values do."""
        if "_gram_and_means" in self.__dict__ or self.has_gram_spectrum or self._known is not None:
            return self._gram_and_means[1]  # all that follows needs the Gram matrix: one pass less
        return torch.cat([self.x[:, block].to(self.dtype).mean(0) for block in self.blocks()])

    def look_ahead(self) -> None:
        """Add to the next reading the counts that `n_nonfinite` and `is_constant` start from."""
        if self._is_looked_ahead:
            return
        self._is_looked_ahead = True
        counts = (~self.first_means.isfinite()).sum(), (self.x[0] != self.x[-1]).sum()
        n_nonfinite, n_different = self.all_reduce_sum(torch.stack(counts))
        self.readings.add(nonfinite_means=n_nonfinite, different_from_last=n_different)
        if self.dtype == torch.float64:
            self.readings.add(spread=self._largest_difference())

    @cached_property
    def _has_finite_means(self) -> bool:
        """Whether all means are finite, on all ranks."""
        self.look_ahead()
        return not bool(self.readings["nonfinite_means"])

    @property
    def gram(self) -> Float[Tensor, "n n"]:
        """Products of the centred rows, in the dtype of computation."""
        return self._gram_and_means[0]

    @cached_property
    def _gram_and_means(self) -> tuple[Float[Tensor, "n n"], Float[Tensor, " b"]]:
        """Both from one pass over the columns."""
        if self._known is not None:
            return self._known
        if "first_means" in self.__dict__:
            return self.gram_matrix(self.dtype), self.first_means
        means = self.x.new_empty(self.x.shape[1], dtype=self.dtype)
        return self.gram_matrix(self.dtype, means), means

    def gram_matrix(
        self,
        dtype: torch.dtype,
        means: Float[Tensor, " b"] | None = None,
        standardize: bool = False,
    ) -> Float[Tensor, "n n"]:
        """Return new products of the centred rows, in a dtype; write the means to ``means``."""
        shape = self.n_samples, self.n_samples
        new = self.x.new_empty if self.x.shape[1] else self.x.new_zeros  # a rank without a column
        gram = new(shape, dtype=dtype)
        # One block of memory for all: new ones of this size cost page faults, and malloc does not
        # reuse them (1.5 GB lost over 200 704 columns in float16).
        work = self.x.new_empty((self.n_samples, block_width(self.x.shape[1])), dtype=dtype)
        for block in self.blocks():
            centred = work[:, : block.stop - block.start]
            if means is None:
                self._centre(block, centred)
                if standardize:
                    centred -= centred.mean(0)
                    centred *= _inverse_deviation(centred)
            else:
                same = self.x.dtype == dtype
                rows = self.x[:, block] if same else centred.copy_(self.x[:, block])
                means[block] = rows.mean(0)
                torch.sub(rows, means[block], out=centred)
            add_triangle(gram, centred, first=block.start == 0)
        return mirror_triangle(self.all_reduce_sum(gram))

    def centred(self, block: slice, dtype: torch.dtype) -> Float[Tensor, "n b"]:
        """Return a new array of the centred columns of a block."""
        shape = self.n_samples, block.stop - block.start
        return self._centre(block, self.x.new_empty(shape, dtype=dtype))

    def float64_products(
        self, rows: Int[Tensor, " f"]
    ) -> tuple[Float[Tensor, "f n"], Float[Tensor, " n"]]:
        """Return the products of some centred rows with all, and the squared norms of all."""
        products = self.x.new_zeros((len(rows), self.n_samples), dtype=torch.float64)
        norm2 = self.x.new_zeros(self.n_samples, dtype=torch.float64)
        for block in self.blocks():
            centred = self.centred(block, torch.float64)
            products += centred[rows] @ centred.T
            norm2 += centred.square().sum(1)
        return self.all_reduce_sum(products), self.all_reduce_sum(norm2)

    def products_within(self, members: Int[Tensor, "a p"]) -> Float[Tensor, "a p p"]:
        """Return products of the rows of patches relative to their mean, in float64."""
        products = self.x.new_zeros((*members.shape, members.shape[1]), dtype=torch.float64)
        for block in self.blocks():
            rows = self.x[:, block][members].double()
            rows -= rows.mean(1, keepdim=True)
            products += rows @ rows.mT
        return self.all_reduce_sum(products)

    def blocks(self) -> Iterator[slice]:
        """Return the blocks of the columns that are here."""
        return column_blocks(self.x.shape[1])

    def _centre(self, block: slice, out: Float[Tensor, "n b"]) -> Float[Tensor, "n b"]:
        """Write the centred columns of a block to ``out``; return it."""
        # Without centring, float32 products lose the neighbours of features that have an offset:
        # 1928 of 2000 nearest distances are 0 at mean 10 and standard deviation 0.01.
        return torch.sub(self.x[:, block], self.means[block].to(out.dtype), out=out)

    # --- invalid and degenerate rows -------------------------------------------------------------

    @cached_property
    def n_nonfinite(self) -> int:
        """Rows that hold NaN or infinity: a synchronisation of its own only if there may be any."""
        if self._has_finite_means:
            return 0
        counts = torch.zeros(self.n_samples, dtype=torch.int64, device=self.x.device)
        for block in self.blocks():
            counts += (~self.x[:, block].isfinite()).sum(1)
        return int((self.all_reduce_sum(counts) > 0).sum())

    @property
    def spread(self) -> float:
        """Size of the largest difference from the first row, of float64 rows."""
        self.look_ahead()
        return float(self.readings["spread"])

    def _largest_difference(self) -> Float[Tensor, ""]:
        largest = torch.zeros(self.n_samples, dtype=self.x.dtype, device=self.x.device)
        for block in self.blocks():
            torch.maximum(largest, (self.x[:, block] - self.x[0, block]).abs().amax(1), out=largest)
        # Of columns on several ranks the sum: a bound on the size of squares is enough.
        return self.all_reduce_sum(largest).amax()

    def repeats(self, rows: Int[Tensor, " s"]) -> Bool[Tensor, " s"]:
        """Return which of some rows equal an earlier one of them."""
        return repeats_an_earlier_row(self.x[rows], self.all_reduce_sum, self._rank)

    @cached_property
    def is_constant(self) -> bool:
        """Whether all rows are equal: their computed covariance would be rounding, not zero."""
        # One row is enough nearly always.
        self.look_ahead()
        if bool(self.readings["different_from_last"]):
            return False
        others = torch.zeros((), dtype=torch.int64, device=self.x.device)
        for block in self.blocks():
            others += (self.x[:, block] != self.x[0, block]).sum()
        return not bool(self.all_reduce_sum(others))

    # --- second moments --------------------------------------------------------------------------

    def second_moment(self, standardize: bool) -> Float[Tensor, "r r"]:
        """Return centred X Xᵀ or XᵀX, the smaller; they share their non-zero eigenvalues.

        In float64 where float32 squares overflow or vanish. Standardised columns have unit
        variance; columns without variance stay zero.
        """
        if self.is_constant:
            size = min(self.n_samples, self.ambient_dimension)
            return self.x.new_zeros((size, size), dtype=self.dtype)
        moment = self._second_moment_in(self.dtype, standardize)
        if self.dtype == torch.float32:
            self._look_at(moment)
            trace = self.readings["trace"]  # one synchronisation
            # Squares overflow from 1e19 on, and vanish below 1e-19.
            if not bool(trace.isfinite() & (trace > UNDERFLOW)):
                moment = self._second_moment_in(torch.float64, standardize)
        return moment

    def alive(self, moment: Float[Tensor, "r r"]) -> Int[Tensor, " a"] | None:
        """Return the rows of `second_moment` that are not zero, None if all.

        A column without variance has a row of zeros in the d x d matrix.
        """
        if self.has_gram_spectrum:
            return None
        if self._looked_at() is not moment:
            self._look_at(moment)
        n_alive = int(self.readings["n_alive"])
        # Sorted, since their number is known: `nonzero` would wait for the device.
        zeros_last = (moment.diagonal() == 0).int().argsort(stable=True)
        return None if n_alive == len(moment) else zeros_last[:n_alive]

    def _look_at(self, moment: Float[Tensor, "r r"]) -> None:
        """Add trace and number of non-zero rows of a second moment to the next reading."""
        diagonal = moment.diagonal()
        self.readings.add(trace=diagonal.sum(), n_alive=(diagonal != 0).sum())
        self._looked_at = weakref.ref(moment)

    def _second_moment_in(self, dtype: torch.dtype, standardize: bool) -> Float[Tensor, "r r"]:
        if self.has_gram_spectrum:
            is_kept = dtype == self.dtype and not standardize
            moment = self.gram if is_kept else self.gram_matrix(dtype, standardize=standardize)
            # The float32 means are wrong by a rounding, which is a direction of its own under a
            # large offset; subtracting the means of the rows and columns removes it.
            mean = moment.mean(0, dtype=torch.float64)
            shift = (mean - mean.mean() / 2).to(dtype)
            return (moment - shift).sub_(shift[:, None])
        centred = self.centred(slice(0, self.ambient_dimension), dtype)
        centred -= centred.mean(0)
        centred *= _inverse_deviation(centred) if standardize else ~_is_constant(centred)
        moment = centred.new_empty((self.ambient_dimension, self.ambient_dimension))
        return mirror_triangle(add_triangle(moment, centred.T, first=True))


def _inverse_deviation(centred: Float[Tensor, "n b"]) -> Float[Tensor, " b"]:
    # The computed deviation of equal values is a rounding, not 0, and would be scaled up to 1.
    return torch.where(_is_constant(centred), 0, 1 / centred.std(0))


def _is_constant(centred: Float[Tensor, "n b"]) -> Bool[Tensor, " b"]:
    """Return which columns hold equal values: these stay equal when their mean is subtracted."""
    low, high = centred.aminmax(dim=0)
    return low == high
