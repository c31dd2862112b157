"""The command `lightning-id`: LightningCLI over any model and data, with the callback at hand."""

import warnings
from importlib.metadata import PackageNotFoundError, version

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import ArgsType, LightningCLI

from lightning_id import IntrinsicDimensionCallback  # noqa: F401 YAML can name it by its short name


def main(args: ArgsType = None) -> None:
    """Run a subcommand of the Trainer: `fit`, `validate`, `test` or `predict`.

    Args:
        args: The command line as a list, or a parsed configuration; `None` reads `sys.argv`.
    """
    with warnings.catch_warnings():
        # The digits are in memory: worker processes, which Lightning asks for, would slow it down.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        # Lightning 2.6 on torch 2.14: nothing that whoever runs the command could change.
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.* is deprecated")
        LightningCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "lightning-id", "version": _version()},
            auto_configure_optimizers=False,  # the optimiser is the model's, in one place
            args=args,
        )


def _version() -> str:
    try:
        return version("lightning-id")
    except PackageNotFoundError:
        return "unknown (not installed)"
