"""Reading a user's batch: its tensors, the number of its samples, their labels and padding.

A batch is a tensor, or anything that holds tensors: tuples, lists, mappings (``dict`` or not),
dataclasses, packed sequences, and objects with tensors among their attributes.

A mask named ``attention_mask`` is 0 at padding in all common tokenizers and models. Other masks, of
which some are 1 there, are read only if they are named: see ``mask_key`` of the callback.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

_NO_BATCH = (type(None), str, bytes, int, float, type, ModuleType, nn.Module)  # hold no tensors
_PADDING_MASK = re.compile(r"(^|_)(attention|attn|pad|padding|key_padding)_mask$")
_MASK, _OF_DECODER, _IDS = "attention_mask", "decoder_", "input_ids"
_DEEPEST, _MOST_OBJECTS = 8, 2  # containers, objects in each other: references may have no end


def count_samples(batch: Any, axis: int = 0, expected: int | None = None) -> int:
    """Return how many samples a batch holds; raise ValueError if there is no tensor to count them.

    That is the number it states (``batch_size`` or ``num_graphs``, the sequences of a packed one),
    else the expected number, that of the samples of the data set, if a tensor or a list in the
    batch has this length along ``axis``, else the length of its first tensor.
    """
    stated = next(_stated(batch, axis), None)
    if stated is not None:
        return stated
    tensors = tensors_in(batch)
    lengths = [x.size(axis) for x in tensors if axis < (1 if x.is_nested else x.ndim)]
    if lengths and (expected is None or lengths[0] == expected):
        return lengths[0]
    # A length of 1 proves little: a tuple of one tensor has it too.
    if expected is not None and (
        not lengths or (expected > 1 and expected in lengths) or expected in _list_lengths(batch)
    ):
        return expected
    if lengths:
        return lengths[0]
    raise ValueError(
        f"expected a batch with a tensor of more than {axis} axes in it, got {type(batch).__name__}"
    )


def labels_of(batch: Any, size: int) -> Int[Tensor, " b"]:
    """Return the labels in a batch: its first tensor of one whole number per sample, or raise."""
    for tensor in tensors_in(batch):
        if tensor.shape == (size,) and not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor.long().cpu()
    raise ValueError(
        f"`per_class`: expected a batch with a tensor of {size} whole numbers, the labels,"
        f" got shapes {[tuple(tensor.shape) for tensor in tensors_in(batch)]}"
    )


def mask_of(batch: Any, key: str | int, size: int) -> Bool[Tensor, "b t"]:
    """Return the padding mask at a key or attribute of a batch: True for tokens that count."""
    mask = _item(batch, key)
    if mask is None:
        names = [name for name, _ in _parts(batch) if isinstance(name, str)]
        raise ValueError(
            f"`mask_key`: expected a batch with {key!r}, got {names or type(batch).__name__}"
        )
    if not isinstance(mask, Tensor) or mask.ndim != 2 or len(mask) != size:
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"`mask_key`: expected a mask of ({size}, tokens) at {key!r}, got {shape}")
    return mask != 0


def padding_in(batch: Any, size: int) -> tuple[str, Bool[Tensor, "b t"]] | None:
    """Return the name of a padding mask in a batch, and the mask, if it marks any token."""
    for name, mask in named_tensors(batch):
        if _PADDING_MASK.search(name) and mask.ndim == 2 and len(mask) == size:
            marks = mask != 0
            if bool(marks.any()) and not bool(marks.all()):
                return name, marks
    return None


def named_tensors(batch: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a batch that are named, as items or attributes, and their names."""
    for part in _walk(batch):
        for name, value in () if isinstance(part, (Tensor, *_NO_BATCH)) else _parts(part):
            if isinstance(name, str) and isinstance(value, Tensor):
                yield name, value


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch in order."""
    return (part for part in _walk(batch) if isinstance(part, Tensor))


def is_mapping(batch: Any) -> bool:
    """Whether a batch has named items, as a mapping or with its methods."""
    if isinstance(batch, Mapping):
        return True
    return all(callable(_attribute(batch, name)) for name in ("keys", "items", "__getitem__"))


def _item(batch: Any, key: str | int) -> Any:
    """Return the item or attribute of a batch, None if there is none."""
    with suppress(KeyError, IndexError, TypeError, AttributeError):
        return batch[key]
    return _attribute(batch, key) if isinstance(key, str) else None


def _walk(batch: Any, above: tuple[int, ...] = (), n_objects: int = 0) -> Iterator[Any]:
    """Yield a batch and all its parts, their parts included, in order."""
    yield batch
    if isinstance(batch, (Tensor, *_NO_BATCH)) or len(above) >= _DEEPEST or id(batch) in above:
        return
    n_objects += not (isinstance(batch, (tuple, list)) or is_mapping(batch))
    if n_objects <= _MOST_OBJECTS:
        for _, value in _parts(batch):
            yield from _walk(value, (*above, id(batch)), n_objects)


def _parts(batch: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the names and values of the direct parts of a batch."""
    if isinstance(batch, PackedSequence):
        yield "data", batch.data  # its other tensors describe its layout
    elif is_mapping(batch):
        yield from batch.items()
    elif isinstance(batch, tuple) and hasattr(batch, "_fields"):
        yield from zip(batch._fields, batch, strict=True)
    elif isinstance(batch, (tuple, list)):
        yield from enumerate(batch)
    else:
        for name in _attribute_names(batch):
            yield name, _attribute(batch, name)


def _attribute_names(batch: Any) -> list[str]:
    if dataclasses.is_dataclass(batch):
        return [field.name for field in dataclasses.fields(batch)]
    slots = [getattr(kind, "__slots__", ()) for kind in type(batch).__mro__]
    each = [[names] if isinstance(names, str) else list(names) for names in slots]
    return [*getattr(batch, "__dict__", {}), *(name for names in each for name in names)]


def _attribute(batch: Any, name: str) -> Any:
    """Return an attribute, None if there is none: a property may raise anything."""
    with suppress(Exception):
        return getattr(batch, name)
    return None


def _stated(batch: Any, axis: int) -> Iterator[int]:
    """Yield the numbers of samples that a batch and its parts state."""
    for part in _walk(batch):
        if isinstance(part, PackedSequence):
            yield int(part.batch_sizes[0])
        elif not isinstance(part, (Tensor, tuple, list, *_NO_BATCH)):
            for name in ("num_graphs", "batch_size"):
                number = _attribute(part, name)
                if isinstance(number, torch.Size) and len(number) > axis:
                    number = number[axis]
                if isinstance(number, int) and not isinstance(number, bool):
                    yield number
                    break


def _list_lengths(batch: Any) -> set[int]:
    """Return the lengths of the lists of samples in a batch, such as images of several sizes."""
    lists = [part for part in _walk(batch) if type(part) in (tuple, list)]
    uniform = [part for part in lists if len({_kind(item) for item in part}) == 1]
    return {len(part) for part in uniform if not (part is batch and len(part) == 1)}


def _kind(item: Any) -> tuple[Any, ...]:
    return (item.dtype, item.ndim) if isinstance(item, Tensor) else (type(item),)


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
    modules = set() if model is None else set(model.modules())
    children = [dict(module.named_children()) for module in modules]
    encoders = [each["encoder"] for each in children if each.keys() >= {"encoder", "decoder"}]
    return modules.difference(*(each.modules() for each in encoders)) if encoders else set()


def _within_edges(is_pad: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Return False for padding before the first and after the last other token."""
    other = (~is_pad).int()
    return (other.cumsum(1) > 0) & (other.flip(1).cumsum(1).flip(1) > 0)
