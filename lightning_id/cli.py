"""The command `lightning-id`: LightningCLI over any model and data, and what looks at networks."""

import importlib
import sys
import warnings
from typing import Any, NamedTuple, NoReturn

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from lightning_id import IntrinsicDimensionCallback  # noqa: F401 YAML can name it by its short name
from lightning_id.shipped import find_config
from lightning_id.versions import version_of


class _Command(NamedTuple):
    """What is no subcommand of the Trainer, imported only when it is asked for.

    Attributes:
        words: What the command line begins with.
        module: Where its function is.
        function: It takes the words that follow.
        extra: The packages it needs beyond those of a training.
        help: What the list of commands says of it, if it has a line there.
    """

    words: list[str]
    module: str
    function: str
    extra: str
    help: str = ""


_COMMANDS = [
    _Command(["report"], "lightning_id.report.command", "main", "report",
        "`lightning-id report RUN [RUN ...]` makes a page of what was measured."),
    _Command(["profile"], "lightning_id.experiments.reproduction.command", "profile", "pretrained",
        "`lightning-id profile MODEL --data DATA` measures any network on any images."),
    _Command(["study", "pretrained"], "lightning_id.experiments.reproduction.command",
        "study_pretrained", "pretrained"),
    _Command(["study"], "lightning_id.study.command", "main", "study",
        "`lightning-id study YAML` trains a grid of networks and compares them,"
        " `lightning-id study pretrained` compares networks that are trained."),
]  # fmt: skip


def main(args: ArgsType = None) -> None:
    """Run a subcommand: `fit`, `validate`, `test`, `predict`, `report`, `profile` or `study`.

    Configuration files that are not found are looked for among those that come with the package:
    `lightning-id fit --config mnist.yaml` works in any folder.

    Args:
        args: The command line as a list, or a parsed configuration; `None` reads `sys.argv`.
    """
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list):
        words = [_with_shipped_config(word) for word in words]
        for command in _COMMANDS:
            if words[: len(command.words)] == command.words:
                _run(command, words[len(command.words) :])
                return
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
            parser_class=_Parser,
            auto_configure_optimizers=False,  # the optimiser is the model's, in one place
            args=words,
        )


class _Parser(LightningArgumentParser):
    """The parser of the Trainer's commands, which names ours beside them."""

    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        """Begin the list with the commands that never reach this parser."""
        subcommands = super().add_subcommands(*args, **kwargs)
        for command in _COMMANDS:
            if command.help:
                subcommands.add_subcommand(command.words[0], _Misplaced(), help=command.help)
        return subcommands


class _Misplaced(LightningArgumentParser):
    """The parser of one of our commands that comes after an option."""

    def parse_args(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse it."""
        self.error("expected the command first: what comes before it belongs to the Trainer")


def _run(command: _Command, words: list[str]) -> None:
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        name = " ".join(command.words)
        sys.exit(
            f"`lightning-id {name}` needs the package {error.name}:"
            f" pip install 'lightning-id[{command.extra}]'"
        )
    getattr(module, command.function)(words)


def _with_shipped_config(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option == "--config":
        return f"{option}={find_config(value)}"
    return find_config(word) if word.endswith(".yaml") else word
