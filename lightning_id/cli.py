"""The command `lightning-id`: LightningCLI over any model and data, and what looks at networks."""

import sys
import warnings

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import ArgsType, LightningCLI

from lightning_id import IntrinsicDimensionCallback  # noqa: F401 YAML can name it by its short name
from lightning_id.versions import version_of

_LACKS_PRETRAINED = "A profile needs the package {}: pip install 'lightning-id[pretrained]'"


def main(args: ArgsType = None) -> None:
    """Run a subcommand: `fit`, `validate`, `test`, `predict`, `report`, `profile` or `study`.

    Args:
        args: The command line as a list, or a parsed configuration; `None` reads `sys.argv`.
    """
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list) and words[:1] == ["report"]:
        _report(words[1:])
        return
    if isinstance(words, list) and words[:1] == ["profile"]:
        _profile(words[1:])
        return
    if isinstance(words, list) and words[:2] == ["study", "pretrained"]:
        _study_pretrained(words[2:])
        return
    if isinstance(words, list) and words[:1] == ["study"]:
        _study(words[1:])
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
                " `lightning-id report RUN [RUN ...]` makes a page of what was measured,"
                " `lightning-id profile MODEL --data DATA` measures any network on any images,"
                " `lightning-id study YAML` trains a grid of networks and compares them,"
                " `lightning-id study pretrained` compares networks that are trained.",
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


def _profile(words: list[str]) -> None:
    try:
        # Not at the top: it needs what draws and knows networks.
        from lightning_id.profile.command import main as profile  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(_LACKS_PRETRAINED.format(error.name))
    profile(words)


def _study_pretrained(words: list[str]) -> None:
    try:
        # Not at the top, as above.
        from lightning_id.profile.command import study_pretrained  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(_LACKS_PRETRAINED.format(error.name))
    study_pretrained(words)


def _study(words: list[str]) -> None:
    try:
        # Not at the top: it needs what draws and writes tables.
        from lightning_id.study.command import main as study  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(f"A study needs the package {error.name}: pip install 'lightning-id[study]'")
    study(words)
