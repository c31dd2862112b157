"""State, loaders and passes of a Trainer, of either class tree; all private names are here."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_id.recording.measurement import Measurement
from lightning_id.recording.passes import (
    arguments_of,
    evaluating,
    has_known_samples,
    kept_rng,
)

# `pytorch_lightning` and `lightning.pytorch` are two class trees that share no base. The types of
# the first are checked; at run time both are accepted.
if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

    AnyTrainer: TypeAlias = Trainer
    AnyModule: TypeAlias = LightningModule
else:
    AnyTrainer = AnyModule = Any


def measured_loader(trainer: AnyTrainer, dataloader_idx: int) -> tuple[Any, int | float]:
    """Return a loader of the running validation or test, and its number of batches (or inf)."""
    loaders: Any = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
    if trainer.testing:
        batches = trainer.num_test_batches
    elif trainer.sanity_checking:
        batches = trainer.num_sanity_val_batches
    else:
        batches = trainer.num_val_batches
    each = list(loaders) if isinstance(loaders, (list, tuple)) else [loaders]
    if dataloader_idx >= len(batches):
        raise ValueError(
            f"`dataloader_idx`: expected 0 to {len(batches) - 1}, the loaders there are,"
            f" got {dataloader_idx}"
        )
    # Several loaders in one batch (CombinedLoader) have no size of their own.
    loader = each[dataloader_idx] if len(each) == len(batches) else loaders
    return loader, batches[dataloader_idx]


def probe_loader(trainer: AnyTrainer, name: str, dataloader_idx: int) -> Iterable[Any]:
    """Return the train or val loader of a fit: the one in use, or a new one before that."""
    loop: Any = trainer.fit_loop if name == "train" else trainer.fit_loop.epoch_loop.val_loop
    loaders: Any = trainer.train_dataloader if name == "train" else trainer.val_dataloaders
    if loaders is None and loop._data_source.is_defined():
        with kept_rng():
            loaders = loop._data_source.dataloader()  # as the loop itself will do
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


def pass_set(
    trainer: AnyTrainer,
    module: AnyModule,
    dataloader_idx: int,
    loader: Iterable[Any] | str,
    start: Callable[[Iterable[Any]], tuple[Iterable[Any], Measurement]],
) -> None:
    """Pass the chosen batches of a loader through the module of a Trainer, and record each."""
    if isinstance(loader, str):
        loader = probe_loader(trainer, loader, dataloader_idx)
    batches, measurement = start(loader)
    with _as_in_validation(trainer, module):
        for index, batch in enumerate(batches):
            moved = batch_on_device(trainer, module, batch)
            measurement.begin_batch(moved)
            with trainer.precision_plugin.forward_context():
                _pass_through(trainer, module, moved, index)
            measurement.end_batch()


def batch_on_device(trainer: AnyTrainer, module: AnyModule, batch: Any) -> Any:
    """Return a batch as a step of the module receives it."""
    converted = trainer.precision_plugin.convert_input(batch)
    prepared = module._on_before_batch_transfer(converted, dataloader_idx=0)
    return trainer.strategy.batch_to_device(prepared, dataloader_idx=0)


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
    if _is_written(type(module).predict_step):
        call_through_wrapper(trainer, module, "predict_step", batch, index)
    elif _is_written(type(module).forward):
        args, kwargs = arguments_of(batch, module.forward)
        call_through_wrapper(trainer, module, "forward", *args, **kwargs)
    else:
        raise ValueError(
            f"`data`: expected {type(module).__name__} to have a forward or a predict_step, got"
            " neither; write one that runs a batch"
        )


def call_through_wrapper(
    trainer: AnyTrainer, module: AnyModule, name: str, *args: Any, **kwargs: Any
) -> None:
    """Call a method of the module, through the wrapper of a strategy that shards it."""
    wrapper = trainer.strategy.model
    # DDP would only broadcast buffers, and wait for the others to do the same.
    if wrapper is None or wrapper is module or isinstance(wrapper, DistributedDataParallel):
        (module if name == "forward" else getattr(module, name))(*args, **kwargs)
    else:
        trainer.strategy._forward_redirection(wrapper, module, name, *args, **kwargs)


def _is_written(method: Callable[..., Any]) -> bool:
    """Return whether a method is written by the user, and not by Lightning."""
    return method.__module__.split(".")[0] not in ("pytorch_lightning", "lightning")


def callbacks_of(trainer: AnyTrainer) -> list[Any]:
    """Return the callbacks of a Trainer, in order."""
    return list(trainer.callbacks)  # type: ignore[attr-defined]  # Lightning does not declare it


def logger_step(trainer: AnyTrainer) -> int:
    """Return the step at which Lightning logs validation metrics: batches that stepped."""
    # `global_step` counts the steps of all optimisers.
    loop = trainer.fit_loop.epoch_loop
    return int(getattr(loop, "_batches_that_stepped", trainer.global_step))


def training_names(trainer: AnyTrainer) -> set[str]:
    """Return the names under which ``self.log`` was called in the training, with their suffixes."""
    logged = [item.meta for item in trainer.fit_loop.epoch_loop._results.values()]
    forked = {meta.forked_name(on_step) for meta in logged for on_step in (True, False)}
    return forked | {meta.name for meta in logged}


def stage_of(trainer: AnyTrainer) -> str:
    """Return the running method: ``"fit"``, ``"validate"``, ``"test"``, or ``""`` for none."""
    return "" if trainer.state.fn is None else trainer.state.fn.value


def writes_files(trainer: AnyTrainer) -> bool:
    """Return whether this rank writes files: the first one, unless this is a trial run."""
    return trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False)


def is_compiled(module: nn.Module) -> bool:
    """Return whether a module was compiled separately: its graph never runs hooks added later."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
