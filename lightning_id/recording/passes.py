"""A pass of chosen samples through a model, which leaves the model and all generators as before."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from inspect import signature
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Subset

from lightning_id.recording.batches import is_mapping
from lightning_id.recording.samples import (
    FixedSamples,
    ReservoirSamples,
    choose_samples,
    uniform_draws,
    why_unsized,
)


class ChosenBatches:
    """Chosen samples of a loader, and the batches that hold them.

    Only the chosen samples of a data set of known size are loaded, in its order; an iterable of
    unknown length is iterated whole. Rank r of w takes every w-th sample, and all ranks pass as
    many batches, so that a sharded model works. Samples are in the order of the batches.
    """

    def __init__(
        self, loader: Iterable[Any], n_samples: int, seed: int | None, rank: int, world: int
    ) -> None:
        self.samples: FixedSamples | ReservoirSamples
        self.batches: Iterable[Any]
        if not has_known_samples(loader):
            self.samples = ReservoirSamples(n_samples, seed, why_unsized(loader))
            self.batches = loader
            return
        size = len(loader.dataset)  # type: ignore[arg-type]  # see `has_known_samples`
        positions = choose_samples(size, n_samples, seed)
        mine = torch.arange(rank, len(positions), world)
        self.samples = FixedSamples(
            torch.arange(len(mine)), uniform_draws(len(positions), seed)[mine]
        )
        self.samples.equal_share = -(-len(positions) // world)
        # Ranks with one sample less repeat the last: it passes, and is not recorded.
        filled = torch.arange(rank, rank + world * -(-len(positions) // world), world)
        taken = positions[filled.clamp(max=len(positions) - 1)]
        batch_size = loader.batch_size or 64
        self.samples.expect(len(taken), batch_size, ReservoirSamples(n_samples, seed))
        self.batches = DataLoader(
            Subset(loader.dataset, taken.tolist()),
            batch_size=batch_size,
            collate_fn=loader.collate_fn,
            num_workers=loader.num_workers,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            pin_memory=loader.pin_memory,
        )


def has_known_samples(loader: Any) -> TypeGuard[DataLoader[Any]]:
    """Return whether single samples of the data set of a loader can be chosen."""
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and isinstance(loader.dataset, Sized)
        and loader.batch_sampler is not None  # else the data set gives whole batches
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Temporarily switch to eval mode, without gradients, global RNG states preserved."""
    modes = [(each, each.training) for each in model.modules()]
    try:
        # Set, not called: `eval` and `train` may be overridden and do more, such as merge weights.
        for each, _ in modes:
            each.training = False
        with kept_rng(), torch.no_grad():
            yield
    finally:
        for each, mode in modes:
            each.training = mode


def arguments_of(
    batch: Any, forward: Callable[..., Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments that a forward takes of a batch: its first element, items, or all."""
    if isinstance(batch, (list, tuple)):
        return (batch[0],), {}
    if is_mapping(batch):
        items = dict(batch.items())
        with suppress(TypeError, ValueError):  # it takes other keywords, or has no signature
            signature(forward).bind(**items)
            return (), items
    return (batch,), {}


def batch_to(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device; an object without ``to`` stays as it is."""
    if isinstance(batch, Tensor) or callable(getattr(batch, "to", None)):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: batch_to(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(batch_to(each, device) for each in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(batch_to(each, device) for each in batch)
    return batch


@contextmanager
def kept_rng() -> Iterator[None]:
    """Restore the global RNG states of torch, numpy and Python, also after an exception."""
    # A device that was never used has no state yet, and asking for it would start CUDA.
    is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if is_used else []
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
