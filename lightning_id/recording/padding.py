"""The tokens of a batch that are no padding: by its attention mask, or by the padding token.

A mask named ``attention_mask`` is 0 at padding in all common tokenizers and models. Other masks, of
which some are 1 there, are read only if they are named: see ``mask_key`` of the callback.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from jaxtyping import Bool
from torch import Tensor, nn

from lightning_id.recording.batches import named_tensors

_MASK, _OF_DECODER, _IDS = "attention_mask", "decoder_", "input_ids"


class Padding(NamedTuple):
    """Padding in a batch."""

    source: str  # of the mark, for notes
    mask: Bool[Tensor, "b t"]  # True for the tokens of each sample that count
    is_of_decoder: bool = False  # whether the tokens are of a decoder that has an encoder


def find_padding(batch: Any, size: int, pad_token: int | None) -> tuple[Padding, ...]:
    """Return the padding of a batch, at most one of an encoder or sole stack, one of a decoder."""
    # Of masks of several inputs, such as of two texts, it is not known which layer has which.
    masks, ids = dict[str, Tensor](), dict[str, Tensor]()
    for name, tensor in named_tensors(batch):
        if tensor.shape[:1] != (size,) or tensor.ndim != 2:
            continue
        if name.endswith(_MASK) and bool(((tensor == 0) | (tensor == 1)).all()):
            masks.setdefault(name, tensor != 0)
        elif name == _IDS and not tensor.is_floating_point():
            ids.setdefault(name, tensor)
    found = [Padding(name, mask, name.startswith(_OF_DECODER)) for name, mask in masks.items()]
    sole = [each for each in found if not each.is_of_decoder]
    if not sole and _IDS in ids and pad_token is not None:
        mask = _within_edges(ids[_IDS] == pad_token)
        return *found, Padding(f"token {pad_token} of {_IDS}", mask)
    return tuple(found) if len(sole) <= 1 else ()


def pad_token_of(model: nn.Module) -> int | None:
    """Return the padding token in the ``config`` of a network, else that of its embeddings."""
    for module in model.modules():
        with suppress(Exception):  # a property of the user's may raise anything
            token = module.config.pad_token_id  # type: ignore[union-attr]
            if isinstance(token, int):
                return token
    embeddings = (module for module in model.modules() if isinstance(module, nn.Embedding))
    tokens = {each.padding_idx for each in embeddings} - {None}
    return tokens.pop() if len(tokens) == 1 else None


def side_of_decoder(model: nn.Module | None) -> set[nn.Module]:
    """Return the modules given tokens of the decoder: all outside of an encoder next to it."""
    inside = {module for encoder in _encoders(model) for module in encoder.modules()}
    return set() if model is None or not inside else set(model.modules()) - inside


def _encoders(model: nn.Module | None) -> Iterator[nn.Module]:
    for module in () if model is None else model.modules():
        children = dict(module.named_children())
        if "encoder" in children and "decoder" in children:
            yield children["encoder"]


def _within_edges(is_pad: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Return False for padding before the first and after the last other token."""
    other = (~is_pad).int()
    return (other.cumsum(1) > 0) & (other.flip(1).cumsum(1).flip(1) > 0)
