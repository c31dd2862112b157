"""The geometry of the rows of one layer: nearest distances and spectrum, each computed once.

One convention of shapes throughout: ``x`` is (n, d), n rows (samples) of d columns (features). The
sums over the columns are computed in `lightning_id.functional.columns`, the neighbours are found in
`lightning_id.functional.neighbors`.
"""

from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_id.functional.columns import Columns
from lightning_id.functional.eigenvalues import LaterSpectrum, covariance_spectrum
from lightning_id.functional.estimate import Estimate
from lightning_id.functional.leading import LARGEST, SMALLEST, Leading
from lightning_id.functional.neighbors import GramProposer, Neighbors, NeighborSearch, Proposer
from lightning_id.functional.precision import exact_arithmetic

LARGEST_GRAM = 50_000  # rows; their n x n matrix takes 10 GB
MIN_DISTINCT = 3  # a point and its two nearest neighbours

# A coordinate computed in the dtype it came in is a sum, and wrong by more than a rounding; one
# stored in half precision is wrong by one. In units of the largest difference that roundings can
# make between two distances along one column.
_ROUNDINGS_COMPUTED, _ROUNDINGS_STORED = 2.0, 1.0
# Roundings by which sums over the columns may differ, and the sums that made the rows.
_ROUNDINGS_OF_SUMS = 64
# Distances above order 16 are right to this: see `Geometry.neighbors`.
_RIGHT_TO = 1e-6
# Beyond, squares and fourth powers of float64 rows leave float64; float32 rows cannot reach it.
_LARGEST_SPREAD = 1e60


class Geometry:
    """Gram matrix, nearest distances and spectrum of rows, each computed once, when first needed.

    Args:
        x: (n, d) rows of any floating dtype on any device, or a `Proposer` that holds them. float16
            and bfloat16 are computed in float32, float64 in float64. The tensor is kept, not
            copied: leave it unchanged.

    Attributes:
        x: The rows.
        n_samples: Rows, n.
        ambient_dimension: Columns, d.
        dtype: Name of the dtype the rows came in.
        backend: Name of the search for neighbours; ``"gram"``.

    Memory besides ``x``: one n x n matrix and one block of n x 4096; for neighbours above order 16,
    while they are searched, a second n x n matrix in float64.
    `lightning_id.functional.faiss_search.faiss_geometry` needs no n x n matrix.

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

    def __init__(self, x: Tensor | Proposer) -> None:
        if not isinstance(x, Proposer):
            x = GramProposer(Columns(few_enough(checked_rows(x))))
        columns = x.columns
        self.x = columns.x
        self.n_samples = columns.n_samples
        self.ambient_dimension = columns.ambient_dimension
        self.dtype = str(columns.source_dtype).removeprefix("torch.")
        self.backend = x.backend
        self.columns = columns  # this and the search: for the estimators of this package
        self.search = NeighborSearch(x)
        self._found: Neighbors | None = None
        self._spectra: dict[bool, Float[Tensor, " r"]] = {}
        self.leading: Leading | None = None  # None: every count comes from all eigenvalues

    @cached_property
    def reason(self) -> str | None:
        """Why there is no estimate of these rows, or None."""
        if self.n_samples < MIN_DISTINCT:
            return f"expected at least {MIN_DISTINCT} rows, got {self.n_samples}"
        with exact_arithmetic(self.x.device):
            bad = self.columns.n_nonfinite
            if bad:
                return f"{bad} of {self.n_samples} rows hold NaN or infinite values"
            if self.columns.dtype == torch.float32:
                return None
            spread = self.columns.spread
            if spread > _LARGEST_SPREAD or 0 < spread < 1 / _LARGEST_SPREAD:
                return (
                    f"the rows spread over {spread:.0e}, and squares of that leave float64;"
                    " rescale them"
                )
        return None

    @cached_property
    def neighbor_reason(self) -> str | None:
        """Why there is no estimate from nearest neighbours of these rows, or None."""
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
            return self.search.distinct

    def neighbors(self, k: int = 2) -> Neighbors:
        """Return the k nearest neighbours of every distinct row, by Euclidean distance.

        Which rows are nearest is exact but for ties within 1e-7. Distances up to order 16 are sums
        of squared differences of the rows as they came: of float64 rows right to float64 rounding,
        of others, whose differences and squares are float32, to 1e-7 of themselves. Higher orders
        come from a float64 Gram matrix where that is right to 1e-6, from float64 differences
        elsewhere.

        Args:
            k: How many neighbours, from 1 to the number of distinct rows - 1.

        Returns:
            Distances and indices.

        Raises:
            ValueError: If `neighbor_reason` is not None, or there are not k neighbours.
        """
        if self.neighbor_reason is not None:
            raise ValueError(self.neighbor_reason)
        most = len(self.distinct) - 1
        if not 1 <= k <= most:
            raise ValueError(f"`k`: expected 1 to {most} (distinct rows - 1), got {k}")
        if self._found is None or self._found.distances.shape[1] < k:
            with exact_arithmetic(self.x.device):
                self._found = self.search.find(k)
        return Neighbors(self._found.distances[:, :k], self._found.indices[:, :k])

    def resolution_bound(self, near: int) -> Float[Tensor, " m"]:
        """Return a bound on `resolution` and the rounding in `neighbors`, by the largest row."""
        with exact_arithmetic(self.x.device):
            moved = 4 * self._rounding * self.search.largest_norm
        return moved / self.neighbors(near).distances[:, -1] + self._resolution_of_sums + _RIGHT_TO

    def resolution(
        self, near: int, far: int, rows: Int[Tensor, " s"]
    ) -> tuple[Float[Tensor, "s 2"], Float[Tensor, " s"]]:
        r"""Return two distances of some distinct rows in float64, and their relative resolution.

        With the unit roundoff u of the dtype that the rows came in and :math:`m_c`, the largest of
        both coordinates and the median magnitude of their column, roundings of the coordinates
        change :math:`r_2 / r_1 - 1` by up to

        .. math:: 2 u \sqrt{2 (w_1 + w_2)} / r_1, \qquad
            w_j = \sum_c (x_c - y_{jc})^2 m_c^2 / r_j^2 ,

        which is :math:`4 u m / r_1` along one column, and five half standard deviations of
        independent roundings along many. The resolution is twice that, because features are sums;
        once of half precision, to which sums are rounded only once. And at least 64 roundings of
        the sums over the columns.
        """
        found = self.neighbors(far)
        others = found.indices[rows][:, [near - 1, far - 1]]
        with exact_arithmetic(self.x.device):
            distances, along = self.search.scores(rows, others)
        moved = self._rounding * (2 * along.square().sum(1)).sqrt()
        return distances, (2 * moved / distances[:, 0]).clamp_min(self._resolution_of_sums)

    @property
    def _rounding(self) -> float:
        """Rounding of a coordinate, relative to its size."""
        computed = self.x.element_size() > 2 and "float8" not in self.dtype
        roundings = _ROUNDINGS_COMPUTED if computed else _ROUNDINGS_STORED
        return roundings * torch.finfo(getattr(torch, self.dtype)).eps / 2

    @property
    def _resolution_of_sums(self) -> float:
        """Rounding of a sum over the columns, relative to its size."""
        return _ROUNDINGS_OF_SUMS * torch.finfo(self.columns.dtype).eps / 2

    def spectrum(self, standardize: bool = False) -> Float[Tensor, " r"]:
        """Return the eigenvalues of the covariance of the rows, largest first.

        From the n x n Gram matrix where d > n, from the d x d covariance otherwise; every row
        counts, repeated ones too.

        Args:
            standardize: Scale every column to unit variance first (the correlation matrix); columns
                without variance stay zero.

        Returns:
            min(n, d) eigenvalues in float64 on the CPU, divided by n - 1. The smallest may be
            negative by rounding.

        Raises:
            ValueError: If `reason` is not None.
            torch.linalg.LinAlgError: If no solver converges, in float64 either.
        """
        if self.reason is not None:
            raise ValueError(self.reason)
        if standardize not in self._spectra:
            with exact_arithmetic(self.x.device):
                moment = self.columns.second_moment(standardize)
                alive = self.columns.alive(moment)
                self._spectra[standardize] = covariance_spectrum(moment, alive, self.n_samples)
        return self._spectra[standardize]

    @property
    def known_spectrum(self) -> Float[Tensor, " r"] | None:
        """The spectrum, not standardised, if it has been computed; None otherwise."""
        return self._spectra.get(False)

    def leading_count(self, share: float, standardize: bool, noise: float) -> int | None:
        """Return how many eigenvalues hold a share of the variance, if certified without the rest.

        Exactly the count from `spectrum`; ``noise`` is its noise floor over the largest eigenvalue.
        None where `leading` is None, or all eigenvalues are needed or known.
        """
        size = min(self.n_samples, self.ambient_dimension)
        if self.leading is None or self.leading.needs_all or standardize in self._spectra:
            return None
        if not SMALLEST <= size <= LARGEST or not 0 < share < 1:
            return None
        with exact_arithmetic(self.x.device):
            moment = self.columns.second_moment(standardize)
            alive = self.columns.alive(moment)
            count = self.leading.count(moment, share, noise, standardize)
            if count is None:
                self._spectra[standardize] = covariance_spectrum(moment, alive, self.n_samples)
            elif not standardize:
                self.leading.spectrum = LaterSpectrum(moment, alive, self.n_samples)
        return count

    def moments(self, standardize: bool = False) -> tuple[float, float]:
        """Return trace and squared Frobenius norm of the covariance, without its eigenvalues.

        Args:
            standardize: As in `spectrum`.

        Returns:
            Sum of the eigenvalues and sum of their squares.

        Raises:
            ValueError: If `reason` is not None.
        """
        if self.reason is not None:
            raise ValueError(self.reason)
        with exact_arithmetic(self.x.device):
            moment = self.columns.second_moment(standardize) / (self.n_samples - 1)
            trace = moment.diagonal().sum(dtype=torch.float64)
            square = torch.linalg.vector_norm(moment, dtype=torch.float64).square()
            trace, square = torch.stack((trace, square)).cpu().tolist()
        return trace, square

    def estimate(self, *, distinct: bool) -> Estimate:
        """Return an estimate without a value, which an estimator completes unless it has a reason.

        Args:
            distinct: Whether the estimator uses the distinct rows only, as with neighbours.

        Returns:
            Counts, dtype and backend; ``reason`` is not None where there can be no value.
        """
        return Estimate(
            n_samples=self.n_samples,
            n_duplicates=self.n_duplicates if distinct else 0,
            dtype=self.dtype,
            backend=self.backend,
            reason=self.neighbor_reason if distinct else self.reason,
        )

    def estimate_of_order(self, k: int) -> Estimate:
        """Return an estimate without a value, as `estimate`, for k neighbours of every row.

        Args:
            k: Neighbours needed of every distinct row.

        Returns:
            The same; the ``reason`` may be that there are not enough distinct rows.
        """
        if "reason" not in self.__dict__ and self.n_samples >= MIN_DISTINCT:
            with exact_arithmetic(self.x.device):
                self.search.look_ahead(k)
        estimate = self.estimate(distinct=True)
        if estimate.reason is None and len(self.distinct) <= k:
            return replace(
                estimate,
                reason=f"expected more than {k} distinct rows, for {k} neighbours each,"
                f" got {len(self.distinct)}",
            )
        return estimate

    def subset(self, index: Int[Tensor, " s"]) -> "Geometry":
        """Return the geometry of some rows, by numbers on their device, with their Gram matrix."""
        with exact_arithmetic(self.x.device):
            return Geometry(self.search.proposer.subset(index))


def geometry_of(x: Tensor | Geometry) -> Geometry:
    """Return ``x`` itself if it is a `Geometry`, else the geometry of its rows."""
    return x if isinstance(x, Geometry) else Geometry(x)


def checked_rows(x: Tensor) -> Float[Tensor, "n d"]:
    """Return rows without gradients, on a device that has float64; raise if they are no rows."""
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
    return x.cpu() if x.device.type == "mps" else x  # MPS has no float64, and the sums need it


def few_enough(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return the rows; raise if there are too many for an n x n matrix."""
    if len(x) > LARGEST_GRAM:
        raise ValueError(
            f"`x`: expected at most {LARGEST_GRAM} rows, got {len(x)}, whose n x n matrix would"
            f" take {4e-9 * len(x) ** 2:.0f} GB; measure a sample of them, or give"
            " lightning_id.functional.faiss_search.faiss_geometry(x) in place of x"
        )
    return x
