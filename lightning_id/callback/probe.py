"""A separate forward pass over chosen samples of a loader, which does not change the training."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from inspect import signature
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset

from lightning_id.callback.randomness import kept_rng
from lightning_id.callback.trainers import (
    AnyModule,
    AnyTrainer,
    batch_on_device,
    call_through_wrapper,
    loaders_of_fit,
)
from lightning_id.recording.batches import is_mapping
from lightning_id.recording.samples import (
    FixedSamples,
    ReservoirSamples,
    choose_samples,
    uniform_draws,
    why_unsized,
)

_LIGHTNING = ("pytorch_lightning", "lightning")


class Probe:
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
        if not _has_known_samples(loader):
            self.samples = ReservoirSamples(n_samples, seed, why_unsized(loader))
            self.batches = loader
            return
        positions = choose_samples(_size(loader), n_samples, seed)
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

    def run(
        self,
        trainer: AnyTrainer,
        module: AnyModule,
        begin_batch: Callable[[Any], None],
        end_batch: Callable[[], None],
    ) -> None:
        """Pass the batches through the model, each between the two callables.

        By ``predict_step(batch, batch_idx)`` if the user wrote one, else by ``forward`` of the
        first element of a sequence, of the items of a mapping as keywords if it takes them, or of
        any other batch as a whole.
        """
        with _as_in_validation(trainer, module):
            for index, batch in enumerate(self.batches):
                moved = batch_on_device(trainer, module, batch)
                begin_batch(moved)
                with trainer.precision_plugin.forward_context():
                    _pass_through(trainer, module, moved, index)
                end_batch()


def probe_loader(trainer: AnyTrainer, name: str, dataloader_idx: int) -> Iterable[Any]:
    """Return the train or val loader of a fit: the one in use, or a new one before that."""
    loaders = loaders_of_fit(trainer, name)
    each = list(loaders) if isinstance(loaders, (list, tuple)) else [loaders]
    if dataloader_idx >= len(each) or each[dataloader_idx] is None:
        raise ValueError(
            f"`probe`: expected a {name} loader, got none; give a DataLoader"
            + (", or 'train'" if name == "val" else "")
        )
    loader: Iterable[Any] = each[dataloader_idx]
    if name == "train" and not _has_known_samples(loader):
        # Another pass over a stream that is in use could take samples away from the training.
        raise ValueError(
            f"`probe`: expected a train loader over a data set of known size, got {type(loader)};"
            " give a DataLoader of its own instead"
        )
    return loader


def _has_known_samples(loader: Any) -> TypeGuard[DataLoader[Any]]:
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and isinstance(loader.dataset, Sized)
        and loader.batch_sampler is not None  # else the data set gives whole batches
    )


def _size(loader: DataLoader[Any]) -> int:
    return len(loader.dataset)  # type: ignore[arg-type]  # see `_has_known_samples`


@contextmanager
def _as_in_validation(trainer: AnyTrainer, module: nn.Module) -> Iterator[None]:
    """Temporarily switch to validation: eval mode, no gradients, global RNG states preserved."""
    modes = [(each, each.training) for each in module.modules()]
    stage = trainer.state.stage
    stages: Any = type(stage)  # of either class tree
    try:
        # Set, not called: `eval` and `train` may be overridden and do more, such as merge weights.
        for each, _ in modes:
            each.training = False
        # The user's hooks after the transfer, such as augmentation, read the stage.
        trainer.state.stage = stage if trainer.evaluating else stages.VALIDATING
        with kept_rng(), torch.no_grad():
            yield
    finally:
        trainer.state.stage = stage
        for each, mode in modes:
            each.training = mode


def _pass_through(trainer: AnyTrainer, module: AnyModule, batch: Any, index: int) -> None:
    args: tuple[Any, ...] = (batch,)
    kwargs: Mapping[str, Any] = {}
    name = "forward"
    if _is_written(type(module).predict_step):
        name, args = "predict_step", (batch, index)
    elif not _is_written(type(module).forward):
        raise ValueError(
            f"`probe`: expected {type(module).__name__} to have a forward or a predict_step, got"
            " neither; write one that runs a batch"
        )
    elif isinstance(batch, (list, tuple)):
        args = (batch[0],)
    elif is_mapping(batch) and _takes(module.forward, items := dict(batch.items())):
        args, kwargs = (), items
    call_through_wrapper(trainer, module, name, *args, **kwargs)


def _takes(forward: Callable[..., Any], keywords: Mapping[Any, Any]) -> bool:
    """Return whether a forward can be called with these keywords."""
    try:
        signature(forward).bind(**keywords)
    except (TypeError, ValueError):  # or no signature
        return False
    return True


def _is_written(method: Callable[..., Any]) -> bool:
    """Return whether a method is written by the user, and not by Lightning."""
    return method.__module__.split(".")[0] not in _LIGHTNING
