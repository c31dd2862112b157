"""The Trainer's commands: LightningCLI over any model and data."""

import pydoc
import re
import sys
import traceback
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

import jsonargparse  # first: Lightning's own message names no extra of this package
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from lightning_id import IntrinsicDimensionCallback  # noqa: F401 YAML can name it by its short name
from lightning_id._checks import close_names, version_of


def main(args: ArgsType, commands: Mapping[str, str]) -> None:
    """Run `fit`, `validate`, `test` or `predict`; `commands` are the others, with their help."""
    with warnings.catch_warnings():
        # The digits are in memory: worker processes, which Lightning advises, would slow it down.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        # Lightning 2.6 on torch 2.14: nothing that whoever runs the command could change.
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.* is deprecated")
        # The words are handed on with their configurations found, and not mixed with others.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
        try:
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
                    "description": "Run the Trainer with the callback at hand, and look at"
                    " networks.",
                },
                parser_class=_with_commands(commands),
                auto_configure_optimizers=False,  # the optimiser is the model's, in one place
                args=sys.argv[1:] if args is None else args,
            )
        except (ValueError, OSError) as error:
            message = _raised_here(error)
            if message is None:
                raise
            _exit(message)


def _exit(message: str) -> NoReturn:
    sys.stderr.write(f"lightning-id: error: {message}\n")
    sys.exit(2)


def _raised_here(error: BaseException) -> str | None:
    """Return the message of the first cause if this package raised it: a wrong argument or path."""
    while error.__cause__ is not None:
        error = error.__cause__
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(error) if frame.f_globals["__name__"].startswith("lightning_id.") else None


# As jsonargparse words them, deep in a message on every type that the value is not.
_UNKNOWN_ARGUMENT = re.compile(r"class_path '(\S+)':\s+Option '(\S+)' is not accepted")
_UNKNOWN_OPTION = re.compile(r"does not accept option '(\S+)'")


def _unknown_name(message: str, error: Any) -> str | None:
    """Return one line on a misspelt argument or option with its neighbours; None of all others."""
    if found := _UNKNOWN_ARGUMENT.search(message):
        path, name = found.groups()
        target: Any = pydoc.locate(path)
        parser = jsonargparse.ArgumentParser()
        is_class = isinstance(target, type)
        add = parser.add_class_arguments if is_class else parser.add_function_arguments
        known = add(target, fail_untyped=False)
        return f"{path} has no argument {name!r}.{close_names(name, known)}"
    if (found := _UNKNOWN_OPTION.search(message)) and hasattr(error, "subcommand_parser"):
        name, known = found[1], [action.dest for action in error.subcommand_parser._actions]
        roots = {each.partition(".")[0] for each in known}
        if name.partition(".")[0] not in roots:
            name, known = name.partition(".")[0], sorted(roots)
        return f"no option {name!r}.{close_names(name, known)}"
    return None


def _with_commands(commands: Mapping[str, str]) -> type[LightningArgumentParser]:
    """Return a parser of the Trainer's commands whose list begins with the others."""

    class Parser(LightningArgumentParser):
        def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
            subcommands = super().add_subcommands(*args, **kwargs)
            for name, text in commands.items():
                subcommands.add_subcommand(name, _SubcommandStub(), help=text)
            return subcommands

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            unknown = _unknown_name(message, ex) if self.exit_on_error else None
            if unknown is not None:
                _exit(unknown)
            super().error(message, ex)

    return Parser


class _SubcommandStub(LightningArgumentParser):
    """The parser of a command of ours that comes after an option."""

    def parse_args(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse it."""
        self.error("expected the command first: what comes before it belongs to the Trainer")
