"""The table of finished runs: settings, dimensions and metrics, a row for each run."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jsonargparse import get_loader

from lightning_id.history import History
from lightning_id.history.queries import last_hidden, last_of_fit
from lightning_id.history.records import Estimated, has_value

Row = dict[str, Any]

PREDICTORS = "last_hidden", "peak", "peak_depth", "peak_over_last"
SEED_NAME = "seed"
COUNTS = "n_samples_"  # begins the columns of the numbers of samples
# Files with the settings of a run, written by LightningCLI, loggers, Hydra and a study.
CONFIGS = "config.yaml", "hparams.yaml", ".hydra/config.yaml", "training.yaml"
# Where a run writes to: no settings.
PLACES = "default_root_dir", "save_dir", "dirpath", "version", "log_dir"


@dataclass(frozen=True)
class Outcome:
    """Logged metrics, each by its name or as ``"1 - name"``.

    The test error, and the training error that it is compared with. ``train/name`` is the metric
    ``name`` of a validation over the training data, made after the fit.
    """

    error: str
    train_error: str | None = None

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics."""
        return [metric_of(each)[0] for each in asdict(self).values() if each is not None]


def collect(folders: Iterable[str | Path], predictors: Sequence[str] = PREDICTORS) -> list[Row]:
    """Return the table of finished runs: one row for each folder.

    A row holds the name of the run; the settings that differ between the runs, as far as their
    folders have a ``config.yaml``, ``hparams.yaml`` or ``.hydra/config.yaml``, and a ``cell`` that
    is the same for runs that differ in nothing but their seed; for each sample set the predictors,
    for example ``last_hidden_val``, and the number of samples; the last value of each metric.

    Args:
        folders: Folders with a ``history.csv``, see `lightning_id.history.History.save`.
        predictors: ``"last_hidden"``, ``"peak"`` (the largest dimension of a profile),
            ``"peak_depth"``, ``"peak_over_last"``, of TwoNN, or an estimator and a layer:
            ``"pca/last_hidden"``, ``"twonn/fc1"``.

    Returns:
        Rows with the same keys, None where a run lacks a value.

    Raises:
        FileNotFoundError: If a folder has no history.
        ValueError: If there is no folder.
    """
    return with_settings(folders, predictors)[0]


def with_settings(
    folders: Iterable[str | Path], predictors: Sequence[str]
) -> tuple[list[Row], list[str]]:
    """Return the table of `collect`, and which of its columns are settings."""
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise ValueError("`folders`: expected at least one folder of a run, got none")
    configs = [_config(path) for path in paths]
    varied = [
        key
        for key in dict.fromkeys(key for config in configs for key in config)
        if len({json.dumps(config.get(key), default=str) for config in configs}) > 1
    ]
    names = short_names(varied)
    rows = []
    for path, config in zip(paths, configs, strict=True):
        settings = {names[key]: shown(key, config.get(key)) for key in varied}
        like = [f"{name} {value}" for name, value in settings.items() if name != SEED_NAME]
        history = History.load(path)
        row = {"run": str(path), "cell": ", ".join(like) if settings else str(path), **settings}
        rows.append(row | dimensions(history, predictors) | metrics(history))
    return completed(rows), list(names.values())


def dimensions(history: History, predictors: Sequence[str]) -> Row:
    """Return the predictors of a run by name and sample set, with the error of `last_hidden`."""
    row: Row = {}
    trained = last_of_fit(history.validations())
    if trained is None:
        return row
    for name in history.sample_sets():
        of_set = history.of_set(name)
        for predictor in predictors:
            estimator, place = _parts(predictor)
            profile = [record for record in of_set.at(trained, estimator) if has_value(record)]
            row[f"{predictor}_{name}"] = _value(profile, place)
            if place == "last_hidden":
                last = last_hidden(profile)
                row[f"{predictor}_{name}_se"] = None if last is None else last["std_error"]
        counts = {r["n_samples"] for r in of_set.records if r["n_samples"] is not None}
        row[f"{COUNTS}{name}"] = max(counts, default=None)
    return row


def has_predictor(history: History, predictor: str) -> bool:
    """Return whether a history has the estimator and the layer of a predictor, value or not."""
    estimator, place = _parts(predictor)
    records = [record for record in history.records if record["estimator"] == estimator]
    if place in ("last_hidden", "peak_over_last"):
        return last_hidden(records) is not None
    return any(place in PREDICTORS or record["layer"] == place for record in records)


def metrics(history: History) -> Row:
    """Return the last value of each metric."""
    return {entry["name"]: entry["value"] for entry in history.metrics}


def metric_of(outcome: str) -> tuple[str, bool]:
    """Return the metric of an outcome, and whether it is one less it, as ``"1 - val_acc"``."""
    name = outcome.removeprefix("1 - ")
    return name.strip(), name != outcome


def outcome_of(outcome: Outcome, logged: Row) -> Row:
    """Return the errors by name, and their gap if there are two."""
    row: Row = {}
    for name, given in asdict(outcome).items():
        if given is not None:
            metric, is_share = metric_of(given)
            value = logged.get(metric)
            row[name] = None if value is None else 1 - value if is_share else value
    if None not in (row["error"], row.get("train_error")):
        row["gap"] = row["error"] - row["train_error"]
    return row


def columns_of(rows: Sequence[Row], predictors: Sequence[str]) -> list[str]:
    """Return the columns of predictors: one for each sample set."""
    sets = [name.removeprefix(COUNTS) for name in rows[0] if name.startswith(COUNTS)]
    return [f"{predictor}_{data}" for predictor in predictors for data in sets]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return a name for each dotted key: its last part, or as many as distinguish it.

    >>> list(short_names(["model.init_args.lr", "trainer.lr", "seed_everything"]).values())
    ['model.lr', 'trainer.lr', 'seed']
    """
    parts = {
        key: [p for p in key.split(".") if p not in ("init_args", "class_path")] or [key]
        for key in keys
    }
    if "seed_everything" in parts:
        parts["seed_everything"] = [SEED_NAME]
    last = Counter(path[-1] for path in parts.values())
    unique = {k: path[-1] if last[path[-1]] == 1 else ".".join(path) for k, path in parts.items()}
    return unique if len(set(unique.values())) == len(unique) else {key: key for key in keys}


def flattened(content: Mapping[str, Any]) -> Row:
    """Return the leaves of nested mappings by dotted key."""
    leaves: Row = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            leaves |= {f"{key}.{inner}": leaf for inner, leaf in flattened(value).items()}
        else:
            leaves[str(key)] = value
    return leaves


def completed(rows: Sequence[Row]) -> list[Row]:
    """Return rows with the same columns, None where one lacks a value."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column) for column in columns} for row in rows]


def shown(key: str, value: Any) -> Any:
    """Return a setting as a number or text; a class by its name."""
    if isinstance(value, str):
        return value.rpartition(".")[2] if key.endswith("class_path") else value
    return value if value is None or isinstance(value, (int, float)) else str(value)


def rows_of(table: Any) -> list[Row]:
    """Return a table as rows: a sequence of mappings, or a pandas data frame; NaN becomes None."""

    def known(value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else value

    rows = table.to_dict("records") if hasattr(table, "to_dict") else table
    return [{str(key): known(value) for key, value in row.items()} for row in rows]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write a table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys() if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def _value(profile: Sequence[Estimated], place: str) -> float | None:
    """Return a predictor from the records of an estimator at a measurement."""
    last = last_hidden(profile)
    peak = max(profile, key=lambda record: record["value"], default=None)
    if place == "peak_over_last" and peak is not None and last is not None:
        return peak["value"] / last["value"]
    layers = {record["layer"]: record for record in reversed(profile)}
    found = {"last_hidden": last, "peak": peak, "peak_depth": peak}.get(place, layers.get(place))
    return None if found is None else found["depth" if place == "peak_depth" else "value"]


def _parts(predictor: str) -> tuple[str, str]:
    estimator, _, place = predictor.rpartition("/")
    return estimator or "twonn", place


def _config(folder: Path) -> Row:
    folder = folder if folder.is_dir() else folder.parent
    for name in CONFIGS:
        if (folder / name).is_file():
            content = get_loader("yaml")((folder / name).read_text(encoding="utf-8"))
            leaves = flattened(content) if isinstance(content, Mapping) else {}
            return {k: v for k, v in leaves.items() if k.rpartition(".")[2] not in PLACES}
    return {}
