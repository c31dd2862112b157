"""The YAML of a study, the trainings that it consists of, and checks before the first of them."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, fields
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, get_loader
from pytorch_lightning.cli import LightningCLI

from lightning_id import IntrinsicDimensionCallback
from lightning_id._checks import close_names, find_config, whole_number
from lightning_id.study.table import Outcome, flattened

RECIPE = 2  # raised when a training of the same settings would give other numbers than before


@dataclass(frozen=True)
class Resources:
    """Cores and GPUs of one training; a fraction of a GPU shares it."""

    cpus: int = 1
    gpus: int | float = 0

    def __post_init__(self) -> None:
        whole_number("resources.cpus", self.cpus, least=1)
        if self.gpus < 0:
            raise ValueError(f"`resources.gpus`: expected at least 0, got {self.gpus}")


@dataclass(frozen=True)
class Study:
    """The keys of a study; see the how-to page on studies for their meaning."""

    base: str | dict[str, Any]
    outcome: Outcome
    title: str = ""
    cli: str | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    extra: list[dict[str, Any]] = field(default_factory=list)
    seed: str = "seed_everything"
    callback: dict[str, Any] | None = None
    predictors: list[str] = field(default_factory=lambda: ["last_hidden", "peak", "peak_over_last"])
    groups: dict[str, list[str]] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    rehearse: bool = True


@dataclass(frozen=True)
class Training:
    """One training: its configuration, and the settings in it by key.

    `identity` names it, the same wherever and whenever it has this configuration; `cell` names the
    trainings that differ from it in nothing but the seed.
    """

    identity: str
    cell: str
    settings: dict[str, Any]
    config: dict[str, Any]

    @property
    def label(self) -> str:
        """Its settings as text."""
        return ", ".join(f"{key} {_text(value)}" for key, value in self.settings.items())

    def value(self, key: str) -> Any:
        """Return the value at a dotted key of its configuration; None if there is none."""
        return reduce(_get, key.split("."), self.config)


def load_study(source: str | Path | Mapping[str, Any]) -> Study:
    """Read and check a study: a file, or its content."""
    if isinstance(source, Mapping):
        return _study(source, Path())
    path = Path(source)
    try:
        return _study(_load(path), path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def trainings_of(study: Study) -> list[Training]:
    """Return the trainings of a study, each once."""
    assert isinstance(study.base, dict)
    fixed = _configured(study.base, study.fixed)
    found: dict[str, Training] = {}
    for settings in _cells(study):
        config = _configured(fixed, settings)
        seeds = dict.fromkeys(key for key in settings if study.seed in _names(key))
        identity, cell = (
            _hash(each, study.cli, study.callback) for each in (config, _configured(config, seeds))
        )
        found.setdefault(identity, Training(identity, cell, settings, config))
    if not found:
        raise ValueError("`grid`: expected keys with values to train with, got none")
    return list(found.values())


def setting_keys(trainings: Sequence[Training]) -> list[str]:
    """Return the keys of all settings; of a setting that is a mapping, the keys inside of it."""
    keys: dict[str, None] = {}
    for training in trainings:
        for key in training.settings:
            first = _names(key)[0]
            keys.update(dict.fromkeys(flattened({first: training.value(first)})))
    return list(keys)


def cli_class(name: str | None) -> Any:
    """Return a class by ``"module:Class"``; None for LightningCLI over any model and data."""
    if name is None:
        return LightningCLI
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"`cli`: expected a module to import, got {module!r}: {error}") from error
    # Of pytorch_lightning or of lightning.pytorch, which are two class trees.
    if "LightningCLI" not in [each.__name__ for each in getattr(found, "__mro__", ())]:
        raise ValueError(f"`cli`: expected module:Class of a LightningCLI, got {name!r}")
    return found


def callback_parser(callback: Any = IntrinsicDimensionCallback) -> ArgumentParser:
    """Return the parser of the arguments of the callback."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(callback, "callback")
    return parser


def check(study: Study, trainings: Sequence[Training]) -> None:
    """Parse all configurations by the parser of LightningCLI; an error names the training."""
    if study.callback is not None:
        try:
            callback_parser().parse_object({"callback": deepcopy(study.callback)})
        except ArgumentError as error:
            raise ValueError(f"`callback`: {error}") from error

    class Parsed(Exception):  # noqa: N818 - no error
        """Nothing is to be instantiated."""

    class Parsing(cli_class(study.cli)):  # type: ignore[misc]
        def init_parser(self, **kwargs: Any) -> Any:
            return super().init_parser(**{**kwargs, "exit_on_error": False})

        def parse_arguments(self, parser: Any, args: Any) -> None:  # noqa: ARG002
            for training in trainings:
                try:
                    parser.parse_args(["fit", "--config", json.dumps(training.config)])
                except (ArgumentError, SystemExit) as error:
                    raise ValueError(f"{training.label or 'the training'}: {error}") from error
            raise Parsed

    with suppress(Parsed):
        Parsing()


def _study(content: Any, folder: Path) -> Study:
    """Check the content of a study by jsonargparse, and read the configuration it is based on."""
    if not isinstance(content, Mapping):
        raise ValueError(f"expected the keys of a study, got {content!r}")
    names = [each.name for each in fields(Study)]
    for name in content:
        if name not in names:
            raise ValueError(
                f"expected {', '.join(names)}, got {name!r}.{close_names(str(name), names)}"
            )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Study)
    try:
        parser.parse_object(deepcopy(dict(content)))  # it converts what it is given
    except ArgumentError as error:
        raise ValueError(str(error)) from error
    parts = {"outcome": Outcome, "resources": Resources}
    given = {k: parts[k](**v) if k in parts else v for k, v in content.items()}
    if isinstance(given["base"], str):
        own = folder / given["base"]
        given["base"] = _load(own if own.is_file() else Path(find_config(given["base"])))
    return Study(**given)


def _load(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"Expected a YAML file, got {str(path)!r}: no such file")
    try:
        # The loader of LightningCLI: it reads 1e-3 as a number, unlike that of PyYAML.
        return get_loader("yaml")(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise ValueError(f"expected YAML in {path}, got {error}") from error


def _cells(study: Study) -> Iterator[dict[str, Any]]:
    seeds = {key: values for key, values in study.grid.items() if study.seed in _names(key)}
    for grid in [study.grid] * bool(study.grid) + study.extra:
        cell = grid if any(study.seed in _names(key) for key in grid) else grid | seeds
        lists = [value if isinstance(value, list) else [value] for value in cell.values()]
        if [] in lists:
            key = list(cell)[lists.index([])]
            raise ValueError(f"`{key}`: expected at least one value, got an empty list")
        for values in itertools.product(*lists):
            yield dict(zip(cell, values, strict=True))


def _configured(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    configured = deepcopy(dict(config))
    for key, value in settings.items():
        for name in _names(key):
            _set(configured, name, deepcopy(value))
    return configured


def _names(key: str) -> list[str]:
    """Return the keys that share the values of an entry of the grid, written with commas."""
    return [name.strip() for name in key.split(",")]


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node: Any = config
    for name in parents:
        if isinstance(node, dict):
            child = {} if node.get(name) is None else node[name]
            # A class without arguments has a short form.
            node[name] = {"class_path": child} if isinstance(child, str) else child
        node = _get(node, name)
    if not isinstance(node, dict):
        raise ValueError(f"`{key}`: expected a mapping above its last part, got {node!r}")
    node[last] = value


def _get(node: Any, name: str) -> Any:
    if isinstance(node, list) and name.isdigit() and int(name) < len(node):
        return node[int(name)]
    return node.get(name) if isinstance(node, dict) else None


def _hash(*content: Any) -> str:
    text = json.dumps([RECIPE, *content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _text(value: Any) -> str:
    """Return a setting in few words; a class by its name and arguments."""
    if isinstance(value, dict) and "class_path" in value:
        arguments = ", ".join(f"{k}={_text(v)}" for k, v in value.get("init_args", {}).items())
        return f"{value['class_path'].rpartition('.')[2]}({arguments})"
    return str(value)
