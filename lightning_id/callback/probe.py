"""A separate forward pass over chosen samples of a loader, which does not change the training."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from lightning_id.callback.trainers import (
    AnyModule,
    AnyTrainer,
    batch_on_device,
    call_through_wrapper,
    loaders_of_fit,
)
from lightning_id.recording.measurement import Measurement
from lightning_id.recording.passes import arguments_of, evaluating, has_known_samples

_LIGHTNING = ("pytorch_lightning", "lightning")


def pass_batches(
    trainer: AnyTrainer, module: AnyModule, batches: Iterable[Any], measurement: Measurement
) -> None:
    """Pass batches through the module of a Trainer, and record each."""
    with _as_in_validation(trainer, module):
        for index, batch in enumerate(batches):
            moved = batch_on_device(trainer, module, batch)
            measurement.begin_batch(moved)
            with trainer.precision_plugin.forward_context():
                _pass_through(trainer, module, moved, index)
            measurement.end_batch()


def probe_loader(trainer: AnyTrainer, name: str, dataloader_idx: int) -> Iterable[Any]:
    """Return the train or val loader of a fit: the one in use, or a new one before that."""
    loaders = loaders_of_fit(trainer, name)
    each = list(loaders) if isinstance(loaders, (list, tuple)) else [loaders]
    if dataloader_idx >= len(each) or each[dataloader_idx] is None:
        raise ValueError(
            f"`data`: expected a {name} loader, got none; give a DataLoader"
            + (", or 'train'" if name == "val" else "")
        )
    loader: Iterable[Any] = each[dataloader_idx]
    if name == "train" and not has_known_samples(loader):
        # Another pass over a stream that is in use could take samples away from the training.
        raise ValueError(
            f"`data`: expected a train loader over a data set of known size, got {type(loader)};"
            " give a DataLoader of its own instead"
        )
    return loader


@contextmanager
def _as_in_validation(trainer: AnyTrainer, module: nn.Module) -> Iterator[None]:
    """Temporarily switch to validation: eval mode, no gradients, global RNG states preserved."""
    stage = trainer.state.stage
    stages: Any = type(stage)  # of either class tree
    try:
        # The user's hooks after the transfer, such as augmentation, read the stage.
        trainer.state.stage = stage if trainer.evaluating else stages.VALIDATING
        with evaluating(module):
            yield
    finally:
        trainer.state.stage = stage


def _pass_through(trainer: AnyTrainer, module: AnyModule, batch: Any, index: int) -> None:
    args: tuple[Any, ...] = (batch,)
    kwargs: Mapping[str, Any] = {}
    name = "forward"
    if _is_written(type(module).predict_step):
        name, args = "predict_step", (batch, index)
    elif not _is_written(type(module).forward):
        raise ValueError(
            f"`data`: expected {type(module).__name__} to have a forward or a predict_step, got"
            " neither; write one that runs a batch"
        )
    else:
        args, kwargs = arguments_of(batch, module.forward)
    call_through_wrapper(trainer, module, name, *args, **kwargs)


def _is_written(method: Callable[..., Any]) -> bool:
    """Return whether a method is written by the user, and not by Lightning."""
    return method.__module__.split(".")[0] not in _LIGHTNING
