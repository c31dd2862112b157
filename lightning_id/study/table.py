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

from lightning_id.history import History, Record, Validation
from lightning_id.history.queries import last_hidden, last_of_fit
from lightning_id.history.records import has_value

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
    histories = [History.load(path) for path in paths]
    configs = [_config(path) for path in paths]
    varied = [
        key
        for key in dict.fromkeys(key for config in configs for key in config)
        if len({json.dumps(config.get(key), default=str) for config in configs}) > 1
    ]
    names = short_names(varied)
    rows = []
    for path, history, config in zip(paths, histories, configs, strict=True):
        settings = {names[key]: shown(key, config.get(key)) for key in varied}
        like = {name: value for name, value in settings.items() if name != SEED_NAME}
        cell = ", ".join(f"{name} {value}" for name, value in like.items()) if settings else path
        measured = dimensions(history, predictors) | metrics(history)
        rows.append({"run": str(path), "cell": str(cell), **settings, **measured})
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
            value, error = _dimension(of_set, trained, predictor)
            row[f"{predictor}_{name}"] = value
            if predictor.endswith("last_hidden"):
                row[f"{predictor}_{name}_se"] = error
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
    """Return the name of the metric of an outcome, and whether it is subtracted from 1.

    Example:
        >>> metric_of("1 - val_acc"), metric_of("val_loss")
        (('val_acc', True), ('val_loss', False))
    """
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


def sample_sets(rows: Sequence[Row]) -> list[str]:
    """Return the names of the sample sets of a table."""
    return [name.removeprefix(COUNTS) for name in rows[0] if name.startswith(COUNTS)]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return a name for each dotted key: its last part, or as many as distinguish it.

    Example:
        >>> list(short_names(["model.init_args.net.class_path", "data.init_args.n"]).values())
        ['net', 'n']
        >>> list(short_names(["model.init_args.lr", "trainer.lr", "seed_everything"]).values())
        ['model.lr', 'trainer.lr', 'seed']
    """
    parts = {
        key: [p for p in key.split(".") if p not in ("init_args", "class_path")] for key in keys
    }
    parts = {key: path or [key] for key, path in parts.items()}
    if "seed_everything" in parts:
        parts["seed_everything"] = [SEED_NAME]
    last = Counter(path[-1] for path in parts.values())
    unique = {k: path[-1] if last[path[-1]] == 1 else ".".join(path) for k, path in parts.items()}
    return unique if len(set(unique.values())) == len(unique) else {key: key for key in keys}


def flattened(content: Mapping[str, Any]) -> Row:
    """Return the leaves of nested mappings by dotted key.

    Example:
        >>> flattened({"a": {"b": 1, "c": {"d": 2}}})
        {'a.b': 1, 'a.c.d': 2}
    """
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
    rows = table.to_dict("records") if hasattr(table, "to_dict") else table
    return [{str(key): _known(value) for key, value in row.items()} for row in rows]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write a table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys() if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def _dimension(
    history: History, validation: Validation, predictor: str
) -> tuple[float | None, float | None]:
    """Return a predictor and, of a single layer, its standard error."""
    estimator, place = _parts(predictor)
    profile = [record for record in history.at(validation, estimator) if has_value(record)]
    last = last_hidden(profile)
    if place in ("peak", "peak_depth", "peak_over_last"):
        peak = max(profile, key=lambda r: r["value"], default=None)
        if peak is None:
            return None, None
        if place == "peak_over_last":
            return (None if last is None else peak["value"] / last["value"]), None
        return (peak["value"] if place == "peak" else peak["depth"]), None
    record: Record | None = last
    if place != "last_hidden":
        record = next((r for r in profile if r["layer"] == place), None)
    return (None, None) if record is None else (record["value"], record["std_error"])


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


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
