"""The command `lightning-id`: LightningCLI over any model and data, reports, profiles, studies."""

import sys
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any, NamedTuple

from lightning_id._checks import find_config, how_to_install


class _Command(NamedTuple):
    """A command: its words, the place of its function, its extra, and its line in the help."""

    words: list[str]
    function: str  # module:name
    extra: str
    help: str = ""


COMMANDS = [
    _Command(
        ["report"],
        "lightning_id.report.command:main",
        "report",
        "`lightning-id report RUN [RUN ...]` writes a page about runs.",
    ),
    _Command(
        ["profile"],
        "lightning_id.experiments.pretrained:profile",
        "pretrained",
        "`lightning-id profile MODEL --data DATA` measures any network on any images.",
    ),
    _Command(
        ["study", "pretrained"],
        "lightning_id.experiments.pretrained:study_pretrained",
        "pretrained",
    ),
    _Command(
        ["study"],
        "lightning_id.study.command:main",
        "study",
        "`lightning-id study YAML` trains a grid of any configuration, or takes finished runs,"
        " and tests what the dimension predicts,"
        " `lightning-id study pretrained` compares networks that are trained.",
    ),
]
_TRAINER = _Command([], "lightning_id.experiments.trainer_cli:main", "experiments")


def main(args: Any = None) -> None:
    """Run a subcommand: `fit`, `validate`, `test`, `predict`, `report`, `profile` or `study`.

    A configuration file that does not exist is looked up among the shipped ones:
    `lightning-id fit --config mnist.yaml` works in any folder.

    Args:
        args: The command line as a list, or a parsed configuration; `None` reads `sys.argv`.
    """
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list):
        words = [_with_shipped_config(word) for word in words]
        for command in COMMANDS:
            if words[: len(command.words)] == command.words:
                _function_of(command)(words[len(command.words) :])
                return
    commands = {command.words[0]: command.help for command in COMMANDS if command.help}
    _function_of(_TRAINER)(words, commands)


def _function_of(command: _Command) -> Callable[..., None]:
    """Import the function of a command; without its packages exit with the extra to install."""
    try:
        function: Callable[..., None] = resolve_name(command.function)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("lightning_id"):
            raise
        name = " ".join(["lightning-id", *command.words])
        sys.exit(f"`{name}` needs the package {error.name}: {how_to_install(command.extra)}")
    return function


def _with_shipped_config(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option == "--config":
        return f"{option}={find_config(value)}"
    return find_config(word) if word.endswith(".yaml") else word


if __name__ == "__main__":
    main()
