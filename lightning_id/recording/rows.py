"""What a layer gives for chosen samples becomes (r, d) rows: how, said once.

===================  ===========  ================================================================
``reduce``           from (r, d)  from (r, t, d) tokens or (r, c, h, w) maps, t = h * w places
===================  ===========  ================================================================
``"flatten"``        as it is     (r, t * d), (r, c * h * w)
``"mean"``           as it is     (r, d): over the tokens; (r, c): over the places of a map
``"max"``            as it is     the same, the largest value
``"cls"``            as it is     the first token
``"last"``           as it is     the last token
``"per-position"``   as it is     one token of each sample, drawn once: a sample of all tokens
===================  ===========  ================================================================

Maps with the features last, (r, h, w, c), and sequences with the features first, (r, c, t), are
those of modules that state it: see `lightning_id.recording.axes`. A padding mask leaves tokens out,
which ``"flatten"`` cannot.

===================  ==============================================================================
``rows_per_sample``  of a layer that gives another number of rows than the batch has samples
===================  ==============================================================================
``1``                as many rows as samples; another number is a reason
``k``                ``k`` rows one after another are one sample, and reduced together as its tokens
                     are: windows, frames, crops, ``x.view(n * k, ...)``
``"first"``          the first rows are the samples: the first of two views, ``torch.cat([a, b])``,
                     the seeds of a sampled neighbourhood, a batch that a module pads
``"all"``            every row is a sample of its own, chosen uniformly from all rows of the pass:
                     nodes of graphs, detections, patches
``"chunks"``         the layer is called several times for a batch, each time with the next of its
                     samples: the rows of all calls are put together
===================  ==============================================================================
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from lightning_id._checks import whole_number

Reduce = Literal["flatten", "mean", "max", "cls", "last", "per-position"]

Rows = int | Literal["all", "first", "chunks"]
RowsPerSample = Rows | Mapping[str, Rows]

FITTING = 4096  # features to which rows are projected that do not fit into memory
SKETCHES = 4  # of a projection: sums of its own each, so that no few large features decide


@dataclass(frozen=True)
class RowRule:
    """How the output of a layer becomes one row per sample.

    Attributes:
        reduce: How tokens or maps become one row; see the table of this module.
        sample_dim: The axis along which the samples lie: one for all layers, or by the name that a
            layer is shown under; None, and for layers that are not named, as the modules state it
            (see `lightning_id.recording.axes`).
        rows_per_sample: Rows that belong to a sample, for all layers or by name; see the table of
            this module. 1 for layers that are not named.
        max_features: Features above which a row is projected to so many at random; None for never.
        seed: Seed of the projection.

    Raises:
        ValueError: If a value is out of its range.
    """

    reduce: Reduce = "flatten"
    sample_dim: int | Mapping[str, int] | None = None
    max_features: int | None = None
    seed: int = 0
    rows_per_sample: RowsPerSample = 1

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
        if self.max_features is not None:
            whole_number("max_features", self.max_features, least=SKETCHES)

    def axis_of(self, name: str) -> int | None:
        """Return the axis that was given for the samples of a layer; None if none was."""
        if isinstance(self.sample_dim, Mapping):
            return self.sample_dim.get(name)
        return self.sample_dim

    def rows_of(self, name: str) -> Rows:
        """Return how many rows of a layer belong to a sample."""
        if isinstance(self.rows_per_sample, Mapping):
            return self.rows_per_sample.get(name, 1)
        return self.rows_per_sample


def fits(length: int, n_samples: int, rows: Rows) -> bool:
    """Whether a layer may give so many rows for so many samples."""
    if rows == "all":
        return True
    if rows == "chunks":
        return length <= n_samples
    return length >= n_samples if rows == "first" else length == rows * n_samples


def why_not(shape: tuple[int, ...], axis: int, n_samples: int) -> str:
    """Return which options fit a layer that gives other rows than one for each sample."""
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
    """Pad sequences of several lengths with zeros, and return which tokens are theirs.

    Args:
        output: Of a layer: a packed sequence, alone or first in a tuple, or a nested tensor.

    Returns:
        The tensor (b, t, ...) and True for the tokens of each sequence; any other output and None.
    """
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
    """Return the output of a module; of a mapping, without items of mappings that it was given.

    Raises:
        ValueError: If there are no others.
    """
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
    """Return the tensor of a layer's output: itself, or the first floating one that it holds.

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
    """Make one row of each sample.

    Args:
        x: Outputs of chosen samples, (r, ...).
        reduce: See the table of this module.
        mask: True for the tokens that count; None for all.
        draws: A number in [0, 1) per sample, which tells its token for ``"per-position"``.
        features: The axis of the features: 1, or -1 for the last; None for the last of tokens, and
            1 of maps.

    Returns:
        Rows, in the dtype of ``x``, but float32 for the mean of half precision: a mean over
        thousands of bfloat16 values would lose what tells the rows apart.

    Raises:
        ValueError: If the mask does not fit, or cannot be respected.
    """
    if x.ndim <= 2:
        return x.reshape(len(x), -1)
    if reduce == "flatten":
        if mask is not None:
            raise ValueError(
                "a flattened row would hold the padding; reduce='mean', 'max', 'cls', 'last' or"
                " 'per-position' leaves it out"
            )
        return x.reshape(len(x), -1)
    places = places_of(x, features)
    if mask is not None and mask.shape[1] != places.shape[1]:
        raise ValueError(
            f"expected {mask.shape[1]} tokens, as the mask has, got shape {tuple(x.shape)}"
        )
    if mask is not None and not bool(mask.any(1).all()):
        raise ValueError("expected a token that counts in every sample, got a mask without one")
    return _REDUCTIONS[reduce](places, mask, draws)


def places_of(
    x: Float[Tensor, "r ..."], features: Literal[1, -1] | None = None
) -> Float[Tensor, "r t d"]:
    """Return the tokens or places of each row: see `reduce_rows`."""
    if x.ndim == 2:
        return x[:, None]
    if (features or (-1 if x.ndim == 3 else 1)) == 1:
        return x.flatten(2).transpose(1, 2)
    return x.flatten(1, -2)


def sums(x: Float[Tensor, "r t d"], divisor: Tensor | float | int) -> Float[Tensor, "r d"]:
    """Return the sums over the tokens, divided; summed in float64 and rounded once.

    float32 sums depend on the order and the number of their terms: samples that are equal up to the
    order of their tokens, or constant ones of different length, would give rows that differ by
    roundings, and those would be nearest neighbours.

    Args:
        x: Terms.
        divisor: One number, or one for each row, (r, 1).

    Returns:
        Quotients in the dtype of ``x``, but float32 for half precision.
    """
    out = x.new_empty(
        (len(x), x.shape[2]), dtype=x.dtype if x.element_size() > 2 else torch.float32
    )
    # In float64 the terms take twice the memory: some rows at a time.
    chunk = max(1, (2**20 if x.device.type == "cpu" else 2**26) // max(1, x[:1].numel()))
    for start in range(0, len(x), chunk):
        some = slice(start, start + chunk)
        terms, by = x[some], divisor[some] if isinstance(divisor, Tensor) else divisor
        if x.device.type == "mps":  # has no float64
            terms, by = terms.cpu(), by.cpu() if isinstance(by, Tensor) else by
        out[some] = (terms.double().sum(1) / by).to(out)
    return out


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
    """Return the token that the draw of each sample tells: 0 the first, just below 1 the last."""
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
}


class RandomProjection:
    """A seeded random projection of wide rows, the same for every batch and process.

    Four sketches side by side: each permutes the features, flips random signs, and adds up runs of
    neighbours. Squared distances are kept on average, with a relative deviation of about
    sqrt(2 / m) for m features: 2 % at 4096. No matrix is made, and the order of the sums is fixed.

    Source: count sketch (Charikar, Chen & Farach-Colton 2002) as a sparse Johnson-Lindenstrauss
    transform (Kane & Nelson 2014).

    Args:
        n_features: Features of a row.
        max_features: Features it is projected to, a multiple of four or rounded down to one.
        seed: Seed of a private generator.

    Example:
        >>> x = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
        >>> RandomProjection(1000, 64, seed=0)(x).shape
        torch.Size([3, 64])
    """

    def __init__(self, n_features: int, max_features: int, seed: int) -> None:
        self.n_features = n_features
        self._buckets = max_features // SKETCHES
        self._run = math.ceil(n_features / self._buckets)
        generator = torch.Generator().manual_seed(seed)
        self._sketches = [
            (
                torch.randperm(n_features, generator=generator),
                torch.randint(2, (n_features,), generator=generator, dtype=torch.int8) * 2 - 1,
            )
            for _ in range(SKETCHES)
        ]

    def __call__(self, rows: Float[Tensor, "r d"]) -> Float[Tensor, "r m"]:
        """Project rows.

        Args:
            rows: (r, d) in any floating dtype.

        Returns:
            (r, m) in float32, or float64 if the rows are.
        """
        padding = self._run * self._buckets - self.n_features
        parts = []
        for order, signs in self._sketches:
            mixed = rows.index_select(1, order.to(rows.device)) * signs.to(rows)
            mixed = torch.nn.functional.pad(mixed, (0, padding))
            runs = mixed.view(len(rows), self._buckets, self._run).transpose(1, 2)
            parts.append(sums(runs, math.sqrt(SKETCHES)))
        return torch.cat(parts, dim=1)
