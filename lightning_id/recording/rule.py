"""How the output of a layer becomes one row per sample, as the user chooses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from lightning_id._checks import whole_number
from lightning_id.recording.projection import SKETCHES

Reduce = Literal["flatten", "mean", "max", "cls", "last", "per-position", "tokens"]

Rows = int | Literal["all", "first", "chunks"]
RowsPerSample = Rows | Mapping[str, Rows]


@dataclass(frozen=True)
class RowRule:
    """Arguments of `lightning_id.IntrinsicDimensionCallback`, which explains them, checked."""

    reduce: Reduce = "flatten"
    sample_dim: int | Mapping[str, int] | None = None
    max_features: int | None = None
    seed: int = 0
    rows_per_sample: RowsPerSample = 1
    positions: Sequence[int] | None = None
    tokens_per_sample: int | None = None

    def __post_init__(self) -> None:
        if self.reduce not in get_args(Reduce):
            raise ValueError(
                f"`reduce`: expected one of {', '.join(get_args(Reduce))}, got {self.reduce!r}"
            )
        axes = self.sample_dim
        for axis in axes.values() if isinstance(axes, Mapping) else [axes or 0]:
            whole_number("sample_dim", axis, least=0)
        counts = self.rows_per_sample
        for rows in counts.values() if isinstance(counts, Mapping) else [counts]:
            if rows not in ("all", "first", "chunks"):
                whole_number("rows_per_sample", rows, least=1)
        for name in ("positions", "tokens_per_sample"):
            if getattr(self, name) is not None and self.reduce != "tokens":
                raise ValueError(f"`{name}`: expected reduce='tokens', got {self.reduce!r}")
        if self.positions is not None and not self.positions:
            raise ValueError("`positions`: expected places of tokens, got none")
        for position in self.positions or ():
            whole_number("positions", position, least=-(2**31))
        if self.tokens_per_sample is not None:
            whole_number("tokens_per_sample", self.tokens_per_sample, least=1)
        if self.max_features is not None:
            whole_number("max_features", self.max_features, least=SKETCHES)

    def axis_of(self, name: str) -> int | None:
        """Return the given axis of the samples of a layer; None if none was given."""
        if isinstance(self.sample_dim, Mapping):
            return self.sample_dim.get(name)
        return self.sample_dim

    def rows_of(self, name: str) -> Rows:
        """Return how many rows of a layer belong to a sample."""
        if isinstance(self.rows_per_sample, Mapping):
            return self.rows_per_sample.get(name, 1)
        return self.rows_per_sample

    def has_own_samples(self, name: str) -> bool:
        """Whether the rows of a layer are samples of their own, drawn from all rows of the pass."""
        return self.rows_of(name) == "all" or self.reduce == "tokens"


def fits(length: int, n_samples: int, rows: Rows) -> bool:
    """Whether an axis of this length may hold the rows of so many samples."""
    if rows == "all":
        return True
    if rows == "chunks":
        return length <= n_samples
    return length >= n_samples if rows == "first" else length == rows * n_samples


def why_not(shape: tuple[int, ...], axis: int, n_samples: int) -> str:
    """Return which options fit an output whose rows are not one for each sample."""
    others = [str(i) for i, length in enumerate(shape) if i != axis and length == n_samples]
    if others:
        return f"axis {' or '.join(others)} is as long: sample_dim takes it"
    k, rest = divmod(shape[axis], n_samples)
    if k and not rest:
        return (
            f"rows_per_sample={k} takes {k} rows one after another for a sample, 'first' the first"
            f" {n_samples} rows (of concatenated views), 'all' every row for a sample of its own"
        )
    first = "'first' takes one of the first rows for each sample, " if k else ""
    return f"rows_per_sample: {first}'all' takes every row for a sample of its own"
