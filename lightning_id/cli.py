"""The command `lightning-id`: LightningCLI over any model and data, and the report of a run."""

import sys
import warnings

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import ArgsType, LightningCLI

from lightning_id import IntrinsicDimensionCallback  # noqa: F401 YAML can name it by its short name
from lightning_id.versions import version_of


def main(args: ArgsType = None) -> None:
    """Run a subcommand of the Trainer (`fit`, `validate`, `test` or `predict`), or `report`.

    Args:
        args: The command line as a list, or a parsed configuration; `None` reads `sys.argv`.
    """
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list) and words[:1] == ["report"]:
        _report(words[1:])
        return
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
            parser_kwargs={
                "prog": "lightning-id",
                "version": version_of("lightning-id"),
                "description": "Run the Trainer with the callback at hand;"
                " `lightning-id report RUN [RUN ...]` makes a page of what was measured.",
            },
            auto_configure_optimizers=False,  # the optimiser is the model's, in one place
            args=args,
        )


def _report(words: list[str]) -> None:
    try:
        # Not at the top: those who train need nothing that draws pages.
        from lightning_id.report.command import main as report  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(f"A report needs the package {error.name}: pip install 'lightning-id[report]'")
    report(words)
