"""What the callback asks of a Trainer, of either class tree."""

from typing import Any

from torch import nn

# Of `pytorch_lightning` or of `lightning.pytorch`: two class trees that share no base.
AnyTrainer = Any
AnyModule = Any


def measured_loader(trainer: AnyTrainer, dataloader_idx: int) -> tuple[Any, int | float]:
    """Return the loader that is measured, and how many of its batches this pass takes.

    Args:
        trainer: In a validation or a test.
        dataloader_idx: Which of its loaders.

    Returns:
        The loader; the number of batches, infinite for an iterable of unknown length.

    Raises:
        ValueError: If there is no such loader.
    """
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


def has_validation(trainer: AnyTrainer) -> bool:
    """Tell whether a fit validates: it has a ``validation_step``, a loader, and batches to take."""
    return bool(trainer.enable_validation)


def logger_step(trainer: AnyTrainer) -> int:
    """Return the step at which Lightning logs validation metrics: batches that stepped.

    ``global_step`` counts optimiser steps, of which there are several per batch with several
    optimisers.
    """
    loop = trainer.fit_loop.epoch_loop
    return int(getattr(loop, "_batches_that_stepped", trainer.global_step))


def training_names(trainer: AnyTrainer) -> set[str]:
    """Return the names under which ``self.log`` was called in the training, with their suffixes."""
    logged = [item.meta for item in trainer.fit_loop.epoch_loop._results.values()]
    forked = {meta.forked_name(on_step) for meta in logged for on_step in (True, False)}
    return forked | {meta.name for meta in logged}


def stage_of(trainer: AnyTrainer) -> str:
    """Return what was called: ``"fit"``, ``"validate"``, ``"test"``, or ``""`` for nothing."""
    return "" if trainer.state.fn is None else trainer.state.fn.value


def is_untrained(trainer: AnyTrainer, between_steps: bool) -> bool:
    """Tell whether what is measured now is the network as it was given to the fit."""
    return bool(trainer.sanity_checking or (between_steps and trainer.global_step == 0))


def is_fast_dev_run(trainer: AnyTrainer) -> bool:
    """Tell whether this is a rehearsal, which leaves no files."""
    return bool(getattr(trainer, "fast_dev_run", False))


def is_compiled(module: nn.Module) -> bool:
    """Tell whether a module was compiled by itself: its graph never sees a hook put on later."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
