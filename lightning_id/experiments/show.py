"""The paths of its files that an experiment of the configs prints at the end."""

import sys
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_id.callback import IntrinsicDimensionCallback
from lightning_id.callback.terminal import finish
from lightning_id.figures import depth_profile
from lightning_id.history import RECORDS_FILE, folder_of
from lightning_id.history.queries import main_estimator
from lightning_id.report import write_report


class ShowProfile(Callback):
    """Print the paths of the files of a training at its end, below the table of the callback.

    Reads the history of the `IntrinsicDimensionCallback` of the same Trainer, in either order in
    the list. Writes ``profile.png``, the dimension against relative depth, and ``report.html`` into
    the folder of the run. Of several callbacks, distinguished by their prefix, one with the prefix
    ``train/`` has its files in the folder ``train`` of the run. Prints on one process only.
    """

    names_the_files = True  # the callback need not

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Draw the figure, write the report, and print how to open the curves."""
        run = trainer.log_dir  # on every rank: it is broadcast
        callbacks = [c for c in trainer.callbacks if isinstance(c, IntrinsicDimensionCallback)]  # type: ignore[attr-defined]
        if not callbacks or run is None or not trainer.is_global_zero:
            return
        finish(trainer)  # a live bar breaks long lines, and is drawn again below
        for callback in callbacks:
            folder, history = folder_of(run, callback.prefix), callback.history
            history.save(folder)  # without a logger the callback has written nothing
            figure = depth_profile(history, main_estimator(history))
            figure.savefig(folder / "profile.png")
            _print("")
            _print(f"Depth profile:  {folder / 'profile.png'}")
            _print(f"All records:    {folder / RECORDS_FILE}")
            _print(f"Report:         {write_report([folder])}")
        _print(f"Curves:         {_tensorboard()} --logdir {run}")


def _tensorboard() -> str:
    """Return the command as it can be typed: that of the environment which runs this."""
    command = Path(sys.executable).with_name("tensorboard")
    try:
        return str(command.relative_to(Path.cwd()))
    except ValueError:
        return "tensorboard"


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
