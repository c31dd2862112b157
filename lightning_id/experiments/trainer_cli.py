"""The Trainer's commands: LightningCLI over any model and data."""

import sys
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

import jsonargparse  # noqa: F401 first: Lightning's own message names no extra of this package
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from lightning_id import IntrinsicDimensionCallback  # noqa: F401 YAML can name it by its short name
from lightning_id._checks import version_of


def main(args: ArgsType, commands: Mapping[str, str]) -> None:
    """Run `fit`, `validate`, `test` or `predict`.

    Args:
        args: The command line or a parsed configuration; `None` reads `sys.argv`.
        commands: The other commands of `lightning-id` and their help, for the list of commands.
    """
    with warnings.catch_warnings():
        # The digits are in memory: worker processes, which Lightning asks for, would slow it down.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        # Lightning 2.6 on torch 2.14: nothing that whoever runs the command could change.
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.* is deprecated")
        # The words are handed on with their configurations found, and not mixed with others.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
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
                "description": "Run the Trainer with the callback at hand, and look at networks.",
            },
            parser_class=_with_commands(commands),
            auto_configure_optimizers=False,  # the optimiser is the model's, in one place
            args=sys.argv[1:] if args is None else args,
        )


def _with_commands(commands: Mapping[str, str]) -> type[LightningArgumentParser]:
    """Return a parser of the Trainer's commands whose list begins with the others."""

    class Parser(LightningArgumentParser):
        def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
            subcommands = super().add_subcommands(*args, **kwargs)
            for name, text in commands.items():
                subcommands.add_subcommand(name, _SubcommandStub(), help=text)
            return subcommands

    return Parser


class _SubcommandStub(LightningArgumentParser):
    """The parser of a command of ours that comes after an option."""

    def parse_args(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse it."""
        self.error("expected the command first: what comes before it belongs to the Trainer")
