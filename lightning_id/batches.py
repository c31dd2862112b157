"""Reading a user's batch: its tensors, the number of its samples, their labels and padding mask."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor


def batch_length(batch: Any, axis: int = 0) -> int:
    """Return how many samples a batch holds: the length of its first tensor.

    Args:
        batch: A tensor, or tuples, lists and mappings that hold one.
        axis: The axis along which the samples lie.

    Returns:
        The number.

    Raises:
        ValueError: If there is no tensor with such an axis.
    """
    for tensor in tensors_in(batch):
        if tensor.ndim > axis:
            return tensor.shape[axis]
    raise ValueError(
        f"expected a batch with a tensor of more than {axis} axes in it, got {type(batch).__name__}"
    )


def labels_of(batch: Any, size: int) -> Int[Tensor, " b"]:
    """Return the class labels in a batch: its first tensor of one whole number per sample.

    Args:
        batch: Tuples, lists and mappings that hold it.
        size: Samples in the batch.

    Returns:
        The labels, on the CPU.

    Raises:
        ValueError: If there is none.
    """
    for tensor in tensors_in(batch):
        if tensor.shape == (size,) and not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor.long().cpu()
    raise ValueError(
        f"`per_class`: expected a batch with a tensor of {size} whole numbers, the labels,"
        f" got shapes {[tuple(tensor.shape) for tensor in tensors_in(batch)]}"
    )


def mask_of(batch: Any, key: str | int, size: int) -> Bool[Tensor, "b t"]:
    """Return the padding mask in a batch.

    Args:
        batch: A mapping, tuple or list.
        key: Where the mask is in it.
        size: Samples in the batch.

    Returns:
        True for the tokens that count.

    Raises:
        ValueError: If there is no mask of (samples, tokens) there.
    """
    try:
        mask = batch[key]
    except (KeyError, IndexError, TypeError):
        known = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(f"`mask_key`: expected a batch with {key!r}, got {known}") from None
    if not isinstance(mask, Tensor) or mask.ndim != 2 or len(mask) != size:
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"`mask_key`: expected a mask of ({size}, tokens) at {key!r}, got {shape}")
    return mask != 0


def floating_in(batch: Any) -> list[Tensor]:
    """Return the floating tensors of a batch in order: the first is what a network is given."""
    return [tensor for tensor in tensors_in(batch) if tensor.is_floating_point()]


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch in order, from tuples, lists and mappings of any depth."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_in(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from tensors_in(value)
