"""How the output of a layer becomes one row per sample, as the user chooses."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from lightning_id._checks import whole_number
from lightning_id.recording.projection import SKETCHES, sums

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


def pad(output: Any) -> tuple[Any, Bool[Tensor, "b t"] | None]:
    """Pad packed or nested sequences with zeros; return the mask of their tokens, or None."""
    if type(output) is tuple and output and isinstance(output[0], PackedSequence):
        output = output[0]
    if isinstance(output, PackedSequence):
        padded, lengths = pad_packed_sequence(output, batch_first=True)
    elif isinstance(output, Tensor) and output.is_nested:
        padded = output.to_padded_tensor(0.0)
        lengths = torch.tensor([len(sequence) for sequence in output.unbind()])
    else:
        return output, None
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def own_output(output: Any, given: Iterable[Any]) -> Any:
    """Return an output; of a mapping, without the items of mappings that the module was given."""
    known = {id(item) for item in given}
    if not known or not isinstance(output, Mapping):
        return output
    own = {key: value for key, value in output.items() if id(value) not in known}
    if not own:
        raise ValueError(
            "expected an output of its own, got the items of the mapping that the module was given;"
            " name another layer"
        )
    return own


def first_tensor(output: Any) -> Tensor:
    """Return the tensor in the output of a layer: the output itself, or its first floating tensor.

    Args:
        output: A tensor, tuple, list or mapping (of which ``last_hidden_state`` is preferred).

    Returns:
        A dense floating tensor.

    Raises:
        ValueError: If there is none.
    """
    if isinstance(output, Mapping):
        preferred = output.get("last_hidden_state")
        output = [preferred] if isinstance(preferred, Tensor) else list(output.values())
    if isinstance(output, (tuple, list)):
        tensors = [x for x in output if isinstance(x, Tensor) and x.is_floating_point()]
        output = tensors[0] if tensors else output
    if not isinstance(output, Tensor):
        raise ValueError(f"expected a tensor or a tuple or mapping with one, got {type(output)}")
    if output.is_nested or output.layout != torch.strided:
        raise ValueError(
            "expected a dense tensor, got a nested or sparse one; hook a layer before or after it"
        )
    if not output.is_floating_point():
        raise ValueError(f"expected a floating tensor, got {output.dtype}")
    return output


def reduce_rows(
    x: Float[Tensor, "r ..."],
    reduce: Reduce,
    mask: Bool[Tensor, "r t"] | None = None,
    draws: Float[Tensor, " r"] | None = None,
    features: Literal[1, -1] | None = None,
) -> Float[Tensor, "r d"]:
    """Reduce the output for each sample to one row.

    Args:
        x: Outputs of chosen samples, (r, ...).
        reduce: As of `lightning_id.IntrinsicDimensionCallback`.
        mask: True for the tokens that count; None for all.
        draws: A number in [0, 1) per sample, which picks its token for ``"per-position"``.
        features: The axis of the features: 1, or -1 for the last; None for the last of tokens, and
            1 of maps.

    Returns:
        Rows, one for each sample, or of ``"tokens"`` for each token that counts, in the dtype of
        ``x``, but float32 for the mean of half precision: rounded to
        bfloat16, means over thousands of values would coincide.

    Raises:
        ValueError: If the mask does not fit, or cannot be respected.
    """
    if x.ndim <= 2:
        return x.reshape(len(x), -1)
    if reduce == "flatten":
        if mask is not None:
            raise ValueError(
                "a flattened row would hold the padding; reduce='mean', 'max', 'cls', 'last',"
                " 'per-position' or 'tokens' leaves it out"
            )
        return x.reshape(len(x), -1)
    tokens = tokens_of(x, features)
    if mask is not None and mask.shape[1] != tokens.shape[1]:
        raise ValueError(
            f"expected {mask.shape[1]} tokens, as the mask has, got shape {tuple(x.shape)}"
        )
    if mask is not None and not bool(mask.any(1).all()):
        raise ValueError("expected a token that counts in every sample, got a mask without one")
    return _REDUCTIONS[reduce](tokens, mask, draws)


def tokens_of(
    x: Float[Tensor, "r ..."], features: Literal[1, -1] | None = None
) -> Float[Tensor, "r t d"]:
    """Return outputs as tokens, or places of a map, with their features: see `reduce_rows`."""
    if x.ndim <= 2:
        return x.reshape(len(x), 1, -1)
    if (features or (-1 if x.ndim == 3 else 1)) == 1:
        return x.flatten(2).transpose(1, 2)
    return x.flatten(1, -2)


Mask = Bool[Tensor, "r t"] | None
Draws = Float[Tensor, " r"] | None


def _mean(x: Float[Tensor, "r t d"], mask: Mask, _draws: Draws) -> Float[Tensor, "r d"]:
    if mask is not None:
        x = x.masked_fill(~mask[:, :, None], 0)
        return sums(x, mask.sum(1, keepdim=True))
    return sums(x, x.shape[1])


def _max(x: Float[Tensor, "r t d"], mask: Mask, _draws: Draws) -> Float[Tensor, "r d"]:
    return (x if mask is None else x.masked_fill(~mask[:, :, None], -math.inf)).amax(1)


def _one(x: Float[Tensor, "r t d"], mask: Mask, draws: Draws) -> Float[Tensor, "r d"]:
    """Return the token at the draw of each sample: 0 is the first, just below 1 the last."""
    if mask is None:
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    assert draws is not None
    count = mask.sum(1)
    nth = torch.minimum((draws.to(x.device) * count).long(), count - 1)
    place = (mask.cumsum(1) > nth[:, None]).int().argmax(1)
    return x.gather(1, place[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]


_REDUCTIONS: dict[str, Callable[[Tensor, Mask, Draws], Tensor]] = {
    "mean": _mean,
    "max": _max,
    "cls": lambda x, mask, _: _one(x, mask, torch.zeros(len(x))),
    "last": lambda x, mask, _: _one(x, mask, torch.ones(len(x))),
    "per-position": _one,
    "tokens": lambda x, mask, _: x.flatten(0, 1) if mask is None else x[mask],
}
