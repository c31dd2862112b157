"""From the output of a layer to one row per sample, by a `RowRule`."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from lightning_id.recording.projection import sums
from lightning_id.recording.rule import Reduce


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
