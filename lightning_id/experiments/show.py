"""What the main experiment shows while it runs and when it ends."""

import sys
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_id.callback import IntrinsicDimensionCallback
from lightning_id.console import end_table, validation_line
from lightning_id.figures import depth_profile


class ShowProfile(Callback):
    """Print a line after every validation, and at the end the table and where to look.

    Reads the history of the `IntrinsicDimensionCallback` beside it, whichever comes first in the
    list. Writes ``profile.png``, the dimension against relative depth, into the folder of the run.
    Prints on one process only.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Print accuracy, last hidden dimension and peak of the validation that ends."""
        callback = _beside(trainer)
        if callback is None or not trainer.is_global_zero or not callback.history.records:
            return
        name = (
            "before training"
            if trainer.sanity_checking
            else f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        )
        metrics = callback.last_metrics | dict(trainer.callback_metrics)
        _say(validation_line(metrics, name, callback.history))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Print the table, draw the picture, and say how to open the curves."""
        folder = trainer.log_dir
        callback = _beside(trainer)
        if callback is None or folder is None or not trainer.is_global_zero:
            return
        picture = Path(folder) / "profile.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        depth_profile(callback.history).savefig(picture)
        _say(
            f"\n{end_table(callback.history)}\n\n"
            "Above about 20 TwoNN is a lower bound.\n"
            f"Dimension against depth, by epoch:  {picture}\n"
            f"All records:                        {picture.with_name('history.csv')}\n"
            f"TensorBoard run:                    {folder}\n"
            f"Open the curves:                    {_tensorboard()} --logdir {folder}"
        )


def _beside(trainer: Trainer) -> IntrinsicDimensionCallback | None:
    found = [c for c in trainer.callbacks if isinstance(c, IntrinsicDimensionCallback)]  # type: ignore[attr-defined]
    return found[0] if found else None


def _tensorboard() -> str:
    """Return the command as it can be typed: that of the environment which runs this."""
    command = Path(sys.executable).with_name("tensorboard")
    try:
        return str(command.relative_to(Path.cwd()))
    except ValueError:
        return "tensorboard"


def _say(text: str) -> None:
    # To the terminal above the progress bar, which Rich redraws when something else is written.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
