"""The base of all metrics: an estimator of a uniform sample, of bounded size, of all rows.

A bottom-k reservoir: every row draws a random key, and the ``max_samples`` rows of smallest key
stay. Any split into batches, any merge of reservoirs and any number of ranks keep the rows that one
reservoir of all rows would keep.

The key of a row is a function of seed, rank and the number of rows seen before it: a counter-based
generator has no state, so a pickle or a copy loses nothing, and no global generator is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, distributed, nn
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn
from torchmetrics.utilities.distributed import gather_all_tensors

from lightning_id.functional import Estimate, Geometry
from lightning_id.functional.registry import Estimator

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MAX_KEY = torch.iinfo(torch.int64).max  # of a reservoir that is not full: every row is kept


class DimensionMetric(Metric):
    """An estimator, applied to a uniform sample of the rows of all batches and ranks.

    The rows are on the device of the metric, in the dtype in which they came. A metric on the CPU
    accepts rows from any device, and uses no memory of an accelerator.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``data`` (`torch.Tensor`): floating tensor of shape ``(n, d)``, one row of d features for each
      sample; n may be 0.

    As output of ``forward`` and ``compute`` the metric returns:

    - ``dimension`` (`torch.Tensor`): float32 scalar, not rounded; NaN, with the reason in a
      warning, where there is no estimate. (Lightning's ``EarlyStopping`` stops on a NaN unless
      ``check_finite=False``.) ``forward`` returns the estimate of the batch alone, which takes time
      and, as dimensions depend on the number of rows, averages to another number than ``compute``.

    Args:
        estimator: Function from the `Geometry` of the rows to an `Estimate`, as for
            `register_estimator`; picklable, if the metric is pickled.
        max_samples: Rows to keep, at least 3, on all ranks together; the time of ``compute`` grows
            with its square. Up to a quarter more are held between updates.
        seed: Chooses the sample, in [0, 2^64). Metrics of equal ``max_samples`` and ``seed`` in a
            ``MetricCollection`` share their rows. A metric serves one data loader.
        kwargs: Keyword arguments of ``torchmetrics.Metric``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lightning_id.functional import effective_rank
        >>> from lightning_id.metrics import DimensionMetric
        >>> metric = DimensionMetric(effective_rank)
        >>> for batch in torch.eye(60).split(25):
        ...     metric.update(batch)
        >>> metric.compute()
        tensor(59.)
    """

    is_differentiable = False
    higher_is_better = None
    # `forward` then updates the whole and the batch apart. Merging the batch in afterwards would
    # number the rows of every batch from 0, and so give them the same keys.
    full_state_update = True
    plot_lower_bound = 0.0

    def __init__(
        self, estimator: Estimator, max_samples: int = 2000, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(max_samples, int) or max_samples < 3:
            raise ValueError(f"`max_samples`: expected an integer, 3 or more, got {max_samples!r}")
        if not isinstance(seed, int) or not 0 <= seed < 2**64:
            raise ValueError(f"`seed`: expected an integer in [0, 2^64), got {seed!r}")
        # Arguments out of range raise here: after an error in `compute`, torchmetrics would stay
        # synchronised.
        estimator(Geometry(torch.zeros(3, 1, device="cpu")))
        self.estimator = estimator
        self.max_samples = max_samples
        self.seed = seed
        self._row_dtype: torch.dtype | None = None
        self._last = Estimate()
        # A MetricCollection shares the states of metrics whose states have equal names and, after
        # the first batch, equal values. The names keep different reservoirs apart.
        self._suffix = f"_max{max_samples}_seed{seed}"
        # Keys and count stay on the CPU, where reading them needs no synchronisation.
        no_keys = torch.empty(0, dtype=torch.int64, device="cpu")
        none_seen = torch.zeros((), dtype=torch.int64, device="cpu")
        self.add_state("keys" + self._suffix, no_keys, dist_reduce_fx="cat")
        self.add_state("rows" + self._suffix, [], dist_reduce_fx="cat")
        self.add_state("seen" + self._suffix, none_seen, dist_reduce_fx="sum")

    def update(self, data: Tensor) -> None:
        """Insert the rows of a batch into the reservoir; the rows that are kept are copied.

        Args:
            data: (n, d) rows of any floating dtype on any device; n may be 0.

        Raises:
            ValueError: If ``data`` is no dense floating (n, d) tensor, or d differs between
                batches.
        """
        rows = self._checked(data)
        seen = self._state("seen")
        self._insert(random_keys(self.seed, _rank(), int(seen), len(rows)), rows)
        self._set_state(seen=seen + len(rows))

    def compute(self) -> Float[Tensor, ""]:
        """Return the dimension of the sample as a float32 scalar; NaN and a warning if none."""
        return self._result(self.estimator(Geometry(self.samples)))

    @property
    def samples(self) -> Float[Tensor, "n d"]:
        """The sample, in order of arrival (rank by rank once synchronised)."""
        self._truncate()
        rows: list[Tensor] = self._state("rows")
        if not rows:
            return torch.empty(0, 1, device=self.device)
        self._set_state(rows=[torch.cat(rows)] if len(rows) > 1 else rows)
        whole: Tensor = self._state("rows")[0]
        return whole

    def estimate(self) -> Estimate:
        """Return the estimate behind ``compute``: error bar, counts, and the reason of a NaN."""
        self.compute()
        return self._last

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> tuple[Any, Any]:
        """Plot one dimension, or several in their order: see ``torchmetrics.Metric.plot``."""
        figure, axes = self._plot(val, ax)
        return figure, axes

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Merge the rows of another reservoir, as if they had come through ``update``.

        Args:
            incoming_state: Another metric of this package, or its ``metric_state`` if
                ``max_samples`` and ``seed`` are equal.

        Raises:
            ValueError: If it is neither, or if it has dropped rows and is the smaller reservoir or
                has drawn the same keys: metrics filled apart, outside of ``torch.distributed``,
                need a ``seed`` each.
        """
        keys, chunks, seen, size = self._read(incoming_state)
        if not chunks:
            return
        rows = torch.cat(chunks)
        if len(rows) == seen:  # nothing dropped: a batch like any other
            self.update(rows)
            return
        if size < self.max_samples:
            raise ValueError(
                f"`incoming_state`: expected a reservoir of `max_samples` >= {self.max_samples} or"
                f" one that has dropped no rows, got {size} that has seen {seen}"
            )
        if bool(torch.isin(keys, self._state("keys")).any()):
            raise ValueError(
                "`incoming_state`: its rows were chosen by the same random keys as the rows here,"
                " so that both together are no uniform sample; give each metric its own `seed`"
            )
        self._insert(keys, self._checked(rows))
        self._set_state(seen=self._state("seen") + seen)
        self._update_count += 1
        self._computed = None

    def set_dtype(self, dst_type: str | torch.dtype) -> "DimensionMetric":
        """Store rows in a floating dtype from now on, and cast the stored ones.

        Without it rows keep the dtype in which they come (the widest, if they differ), which
        ``half``, ``float``, ``double`` and ``to(dtype)`` do not change.

        Returns:
            The metric.
        """
        super().set_dtype(dst_type)
        self._row_dtype = self.dtype
        self._set_state(rows=[chunk.to(self.dtype) for chunk in self._state("rows")])
        return self

    # --- the reservoir ---------------------------------------------------------------------------

    def _state(self, name: str) -> Any:
        return getattr(self, name + self._suffix)

    def _set_state(self, **values: Tensor | list[Tensor]) -> None:
        """Replace states, never change them in place: others may share them."""
        for name, value in values.items():
            setattr(self, name + self._suffix, value)

    @property
    def _storage_device(self) -> torch.device:
        """Device of the rows."""
        return torch.device("cpu") if self.compute_on_cpu else self.device

    def _checked(self, data: Tensor) -> Tensor:
        dense = isinstance(data, Tensor) and data.layout == torch.strided and not data.is_nested
        if not dense or not data.is_floating_point() or data.ndim != 2 or data.shape[1] == 0:
            got = f"{data.dtype} {tuple(data.shape)}" if dense else type(data).__name__
            raise ValueError(
                "`data`: expected a dense floating tensor of shape (n, d), d >= 1, got"
                f" {got}; data.flatten(1) makes one row of each sample"
            )
        held = self._state("rows")
        if held and held[0].shape[1] != data.shape[1]:
            raise ValueError(
                f"`data`: expected {held[0].shape[1]} columns as in the batches before,"
                f" got {data.shape[1]}"
            )
        if data.dtype not in DTYPES:  # float8 can be neither concatenated nor promoted
            data = data.float()
        return data if self._row_dtype is None else data.to(self._row_dtype)

    def _insert(self, keys: Int[Tensor, " n"], rows: Float[Tensor, "n d"]) -> None:
        """Copy the rows whose keys are among the smallest."""
        held = self._state("keys")
        limit = kth_smallest(torch.cat((held, keys)), self.max_samples)
        chosen = keys <= limit
        chunk = selected(rows, chosen).to(self._storage_device)
        if len(chunk) == 0:
            return
        self._set_state(keys=torch.cat((held, keys[chosen])), rows=[*self._state("rows"), chunk])
        # Rarely, because it copies the rows that stay.
        if len(self._state("keys")) > self.max_samples * 5 // 4:
            self._truncate()

    def _truncate(self) -> None:
        """Drop all but the ``max_samples`` rows of smallest key."""
        keys, rows = self._state("keys"), self._state("rows")
        if len(keys) <= self.max_samples:
            return
        stays = keys <= kth_smallest(keys, self.max_samples)
        parts = zip(rows, stays.split([len(chunk) for chunk in rows]), strict=True)
        kept = [chunk if bool(mine.all()) else selected(chunk, mine) for chunk, mine in parts]
        self._set_state(keys=keys[stays], rows=[chunk for chunk in kept if len(chunk)])

    def _read(self, other: dict[str, Any] | Metric) -> tuple[Tensor, list[Tensor], int, int]:
        """Return keys, rows, number of rows seen and size of another reservoir."""
        if isinstance(other, DimensionMetric):
            state: dict[str, Any] = other.metric_state
            suffix, size = other._suffix, other.max_samples
        elif isinstance(other, dict) and all(name in other for name in self._defaults):
            suffix, size, state = self._suffix, self.max_samples, other
        else:
            expected = f"a DimensionMetric or a dict with {', '.join(self._defaults)}"
            got = list(other) if isinstance(other, dict) else type(other).__name__
            raise ValueError(f"`incoming_state`: expected {expected}, got {got}")
        keys, rows, seen = (state[name + suffix] for name in ("keys", "rows", "seen"))
        return keys, rows, int(seen), size

    def _result(self, estimate: Estimate) -> Float[Tensor, ""]:
        """Store the estimate, warn if it has no value, and return the value."""
        seen = int(self._state("seen"))
        if seen > estimate.n_samples:
            sampled = f"a uniform sample of {estimate.n_samples} of {seen} rows"
            estimate = replace(
                estimate, note=f"{sampled}; {estimate.note}" if estimate.note else sampled
            )
        self._last = estimate
        if estimate.reason is not None:
            rank_zero_warn(f"{type(self).__name__} is NaN: {estimate.reason}", UserWarning)
        return torch.tensor(estimate.value, dtype=torch.float32, device=self.device)

    # --- devices and ranks -----------------------------------------------------------------------

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> nn.Module:
        """Move the rows to the device of the metric; cast nothing."""
        super()._apply(fn, exclude_state=[*exclude_state, *self._defaults])
        self._computed = None  # has been cast
        self._set_state(rows=[chunk.to(self._storage_device) for chunk in self._state("rows")])
        return self

    def _sync_dist(
        self,
        dist_sync_fn: Callable[..., list[Tensor]] = gather_all_tensors,
        process_group: Any | None = None,
    ) -> None:
        """Merge the reservoirs of all ranks, on all ranks; raise if their rows differ in length."""
        # The reductions of torchmetrics hang or abort where a rank has no rows or another dtype,
        # and gather whole reservoirs. Here the ranks agree on shape and dtype first, and gather
        # only the rows that stay.

        def gather(x: Tensor) -> list[Tensor]:
            group = process_group or self.process_group
            return dist_sync_fn(x.to(self.device), group=group)

        rows, keys = self.samples, self._state("keys")  # in this order: samples drops rows
        header = [int(self._state("seen")), len(keys), rows.shape[1], DTYPES.index(rows.dtype)]
        headers = torch.stack(gather(torch.tensor(header))).tolist()
        filled = [(width, DTYPES[dtype]) for _, n, width, dtype in headers if n]
        if not filled:
            return
        widths = sorted({width for width, _ in filled})
        if len(widths) > 1:  # identical on all ranks: all raise, and none waits
            raise ValueError(f"expected rows of equal length on all ranks, got lengths {widths}")
        dtype = reduce(torch.promote_types, [dtype for _, dtype in filled])
        every = [part.cpu() for part in gather(keys)]
        limit = kth_smallest(torch.cat(every), self.max_samples)
        mine = selected(rows, keys <= limit).to(dtype).reshape(-1, widths[0])
        self._set_state(
            keys=torch.cat([part[part <= limit] for part in every]),
            rows=[torch.cat(gather(mine)).to(self._storage_device)],
            seen=torch.tensor(sum(seen for seen, *_ in headers), device="cpu"),
        )


def random_keys(seed: int, rank: int, first: int, n: int) -> Int[Tensor, " n"]:
    """Return the keys of the rows ``first`` to ``first + n - 1`` of a rank: uniform, on the CPU.

    By Philox, a counter-based generator: a number is a function of key and counter alone. Source:
    Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    philox = np.random.Philox(key=seed | rank << 64, counter=first)
    numbers = philox.random_raw(4 * n)[::4]  # four numbers to a counter
    return torch.from_numpy(numbers.copy().view(np.int64))


def kth_smallest(keys: Int[Tensor, " n"], k: int) -> Int[Tensor, ""]:
    """Return the k-th smallest key, or the largest possible one if there are at most k."""
    return keys.kthvalue(k).values if len(keys) > k else torch.tensor(MAX_KEY, device="cpu")


def selected(rows: Float[Tensor, "n d"], mask: Bool[Tensor, " n"]) -> Float[Tensor, "m d"]:
    """Return a copy of some rows: a slice would keep its whole batch in memory."""
    # The mask is on the CPU, where the number of rows is known without synchronisation.
    return rows.index_select(0, mask.nonzero()[:, 0].to(rows.device))


def _rank() -> int:
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_rank() if ready else 0
