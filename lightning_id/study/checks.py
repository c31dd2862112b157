"""Checks before the first training: each configuration, by the parser of LightningCLI."""

import json
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

from jsonargparse import ArgumentError

from lightning_id.study.grid import Study, Training
from lightning_id.study.training import callback_parser, cli_class


class _Parsed(Exception):  # noqa: N818 - no error
    """All configurations are parsed: nothing is to be instantiated."""


def check(study: Study, trainings: Sequence[Training]) -> None:
    """Parse the configuration of every training; an error names the training."""
    if study.callback is not None:
        try:
            callback_parser().parse_object({"callback": deepcopy(study.callback)})
        except ArgumentError as error:
            raise ValueError(f"`callback`: {error}") from error
    base: Any = cli_class(study.cli)

    class Parsing(base):  # type: ignore[misc]
        def init_parser(self, **kwargs: Any) -> Any:
            return super().init_parser(**{**kwargs, "exit_on_error": False})

        def parse_arguments(self, parser: Any, args: Any) -> None:  # noqa: ARG002
            for training in trainings:
                _parse(parser, training)
            raise _Parsed

    with suppress(_Parsed):
        Parsing()


def _parse(parser: Any, training: Training) -> None:
    try:
        parser.parse_args(["fit", "--config", json.dumps(training.config)])
    except (ArgumentError, SystemExit) as error:
        raise ValueError(f"{training.label or 'the training'}: {error}") from error
