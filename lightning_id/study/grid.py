"""The YAML of a study, and the trainings that it consists of."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, get_loader

from lightning_id._checks import close_names, find_config, whole_number
from lightning_id.study.table import Outcome, flattened

RECIPE = 2  # raised when a training of the same settings would give other numbers than before
SEED = "seed_everything"


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
    cli: str | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    extra: list[dict[str, Any]] = field(default_factory=list)
    seed: str = SEED
    callback: dict[str, Any] | None = None
    predictors: list[str] = field(default_factory=lambda: ["last_hidden", "peak", "peak_over_last"])
    groups: dict[str, list[str]] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    rehearse: bool = True


@dataclass(frozen=True)
class Training:
    """One training: its settings by key, and all that its process needs."""

    settings: dict[str, Any]
    config: dict[str, Any]
    cli: str | None
    callback: dict[str, Any] | None
    seed: str

    @cached_property
    def identity(self) -> str:
        """Name of the training, the same wherever and whenever it has this configuration."""
        return _hash(self.config, self.cli, self.callback)

    @cached_property
    def cell(self) -> str:
        """Name of the trainings that differ from this one in nothing but the seed."""
        config = deepcopy(self.config)
        for key in self.settings:
            if self.seed in _names(key):
                for name in _names(key):
                    _set(config, name, None)
        return _hash(config, self.cli, self.callback)

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
    """Return the trainings of a study, each once.

    Example:
        >>> study = load_study({
        ...     "base": {"model": "Net"}, "outcome": {"error": "val_loss"},
        ...     "grid": {"model.init_args.width": [1, 2], "seed_everything": [0, 1]},
        ... })
        >>> [each.label for each in trainings_of(study)][:2]
        ['model.init_args.width 1, seed_everything 0', 'model.init_args.width 1, seed_everything 1']
    """
    assert isinstance(study.base, dict)
    fixed = _configured(study.base, study.fixed)
    found: dict[str, Training] = {}
    for settings in _cells(study):
        config = _configured(fixed, settings)
        one = Training(settings, config, study.cli, study.callback, study.seed)
        found.setdefault(one.identity, one)
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
        given["base"] = _load(_base_path(given["base"], folder))
    return Study(**given)


def _base_path(name: str, folder: Path) -> Path:
    own = folder / name
    return own if own.is_file() else Path(find_config(name))


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
    with_seeds = [
        cell if any(study.seed in _names(key) for key in cell) else cell | seeds
        for cell in study.extra
    ]
    grids = [study.grid] * bool(study.grid) + with_seeds
    for grid in grids:
        lists = [value if isinstance(value, list) else [value] for value in grid.values()]
        for key, several in zip(grid, lists, strict=True):
            if not several:
                raise ValueError(f"`{key}`: expected at least one value, got an empty list")
        for values in itertools.product(*lists):
            yield dict(zip(grid, values, strict=True))


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
        index = int(name) if isinstance(node, list) and name.isdigit() else name
        if isinstance(node, dict) and node.get(name) is None:
            node[name] = {}
        elif isinstance(node, dict) and isinstance(node[name], str):
            node[name] = {"class_path": node[name]}  # the short form of a class without arguments
        try:
            node = node[index]
        except (IndexError, TypeError):
            raise ValueError(f"`{key}`: expected a key of the configuration, got none") from None
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
