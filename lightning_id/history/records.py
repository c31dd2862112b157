"""The tidy records: one per validation, layer and estimator."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Record = dict[str, Any]
Validation = tuple[str, int, int]  # stage, epoch, step
# The figures of a history: functions of `lightning_id.figures`.
Kind = Literal[
    "depth_profile",
    "heat_map",
    "last_hidden_and_metric",
    "linear_and_nonlinear",
    "per_class",
    "spectra",
]

COLUMNS: dict[str, type] = {
    "stage": str,
    "epoch": int,
    "step": int,
    "data": str,
    "layer": str,
    "role": str,
    "order": int,
    "depth": float,
    "ambient_dimension": int,
    "label": str,
    "estimator": str,
    "value": float,
    "std_error": float,
    "low": float,
    "high": float,
    "n_samples": int,
    "n_used": int,
    "n_duplicates": int,
    "n_ties": int,
    "goodness": float,
    "dtype": str,
    "seconds": float,
    "reason": str,
    "note": str,
    "backend": str,
    "reduce": str,
}
RECORDS_FILE = "history.csv"
METRICS_FILE = "history_metrics.csv"  # metrics.csv is what CSVLogger writes there
SPECTRA_FILE = "history_spectra.npz"
METRIC_COLUMNS: dict[str, type] = {
    "stage": str,
    "epoch": int,
    "step": int,
    "name": str,
    "value": float,
}
BEFORE_TRAINING = "before_training"  # stage of the measurement of the network as it was given


class History:
    """What was measured, as lists of plain dictionaries.

    Attributes:
        records: One dictionary per measurement, layer and estimator, with the keys of `COLUMNS`:
            the stage (``"before_training"``, ``"fit"``, ``"validate"``, ``"test"``), epoch and
            step (the logger's at a validation, optimiser steps taken between validations); the data
            measured (``"val"``, ``"test"``, ``"train"``, ``"probe"``); the layer, its place in the
            order of execution, its relative depth and its width; the class label if only one class
            is measured; the estimator and its `lightning_id.functional.Estimate`; seconds spent;
            ``reason`` where there is no value. Values are str, int, float or None.
        metrics: The metrics that the user's code logged, from the first measurement on, one
            dictionary per number with the keys of `METRIC_COLUMNS`: those of each validation,
            measured or not, and the means over each training epoch, once they are final, both at
            the step that the logger has.
        spectra: Eigenvalues of the covariance by layer, largest first, of the first and the last
            measurement, by stage, epoch and step.

    Example:
        >>> history = History()
        >>> history.append(stage="fit", epoch=0, step=9, layer="fc", estimator="twonn", value=7.5)
        >>> history.records[0]["value"], history.records[0]["reason"]
        (7.5, None)
    """

    def __init__(
        self, records: list[Record] | None = None, metrics: list[Record] | None = None
    ) -> None:
        self.records: list[Record] = [] if records is None else records
        self.metrics: list[Record] = [] if metrics is None else metrics
        self.spectra: dict[Validation, dict[str, Tensor]] = {}

    def __repr__(self) -> str:
        many = f"{len(self.records)} records of {len(self.validations())} measurements"
        return f"History({many}; .records, .to_pandas(), .save(folder))"

    def append(self, **fields: Any) -> None:
        """Add a record.

        Args:
            **fields: Values by column; columns left out are None.

        Raises:
            ValueError: If a name is no column.
        """
        unknown = fields.keys() - COLUMNS.keys()
        if unknown:
            raise ValueError(f"Expected columns of {list(COLUMNS)}, got {sorted(unknown)}")
        self.records.append({name: fields.get(name) for name in COLUMNS})

    def append_metrics(self, validation: Validation, metrics: Mapping[str, float]) -> None:
        """Add metrics of the user's code.

        Args:
            validation: Stage, epoch and step of a validation or of the end of a training epoch.
            metrics: Numbers by name.
        """
        place = dict(zip(("stage", "epoch", "step"), validation, strict=True))
        self.metrics += [place | {"name": name, "value": metrics[name]} for name in metrics]

    def keep_spectra(self, validation: Validation, spectra: dict[str, Tensor]) -> None:
        """Keep the spectra of a measurement: those of the first stay, others give way to the last.

        Args:
            validation: Stage, epoch and step.
            spectra: Eigenvalues by layer.
        """
        for later in list(self.spectra)[1:]:
            del self.spectra[later]
        self.spectra[validation] = spectra

    def validations(self) -> list[Validation]:
        """Return stage, epoch and step of every measured validation, in order."""
        return list(dict.fromkeys(map(validation_of, self.records)))

    def at(self, validation: Validation, estimator: str) -> list[Record]:
        """Return the records of one validation and estimator, in the order of execution.

        Those of all classes together; the classes by themselves are left out.

        Args:
            validation: Stage, epoch and step.
            estimator: For example ``"twonn"``.

        Returns:
            One record per layer.
        """
        found = [
            r
            for r in self.records
            if r["estimator"] == estimator and r["label"] is None and validation_of(r) == validation
        ]
        return in_order(found)

    def to_csv(self, path: str | Path, start: int = 0) -> None:
        """Write the records as CSV: all of them, or append those from ``start`` on to the file.

        Args:
            path: The file.
            start: Records already in the file.
        """
        _write(Path(path), COLUMNS, self.records, start)

    def save(self, folder: str | Path, start: int = 0, start_metrics: int = 0) -> None:
        """Write all there is into a folder.

        ``history.csv`` (the records), ``history_metrics.csv`` and ``history_spectra.npz``.

        Args:
            folder: The folder, made if need be.
            start: Records already in its history.csv.
            start_metrics: Metrics already in its history_metrics.csv.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.to_csv(folder / RECORDS_FILE, start)
        _write(folder / METRICS_FILE, METRIC_COLUMNS, self.metrics, start_metrics)
        if self.spectra:
            arrays = {
                "/".join((*map(str, validation), layer)): values.float().numpy()
                for validation, spectra in self.spectra.items()
                for layer, values in spectra.items()
            }
            with (folder / SPECTRA_FILE).open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub knows no keywords

    @classmethod
    def load(cls, path: str | Path) -> "History":
        """Read what `save` or `to_csv` wrote.

        Args:
            path: The folder of a run, or the CSV of its records; what lies beside it is read too.

        Returns:
            The history.

        Raises:
            ValueError: If the file has other columns.
            FileNotFoundError: If there is none.
        """
        path = Path(path)
        path = path / RECORDS_FILE if path.is_dir() else path
        history = cls(_read(path, COLUMNS))
        if (path.parent / METRICS_FILE).exists():
            history.metrics = _read(path.parent / METRICS_FILE, METRIC_COLUMNS)
        if (path.parent / SPECTRA_FILE).exists():
            with np.load(path.parent / SPECTRA_FILE) as arrays:
                for key in arrays.files:
                    stage, epoch, step, layer = key.split("/", 3)
                    spectra = history.spectra.setdefault((stage, int(epoch), int(step)), {})
                    spectra[layer] = torch.from_numpy(arrays[key])
        return history

    def plot(self, kind: Kind = "depth_profile", **options: str) -> "Figure":
        """Draw a picture; a notebook shows it after ``%matplotlib inline``.

        Args:
            kind: A function of `lightning_id.figures`.
            **options: What it takes besides the history, for example ``estimator="pca"``.

        Returns:
            A matplotlib figure that belongs to the caller alone: pyplot does not know it.

        Raises:
            ValueError: If there is no such kind.

        Example:
            >>> figure = History().plot("heat_map")
            >>> figure.savefig("heat_map.png")  # doctest: +SKIP
        """
        from lightning_id import figures  # noqa: PLC0415 - they need matplotlib, and a history

        if kind not in get_args(Kind):
            raise ValueError(f"`kind`: expected one of {', '.join(get_args(Kind))}, got {kind!r}")
        draw: Callable[..., Figure] = getattr(figures, kind)
        return draw(self, **options)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the records as a tidy data frame: a row each, the columns of `COLUMNS`."""
        import pandas as pd  # noqa: PLC0415 - only those who ask for a data frame need pandas

        return pd.DataFrame(self.records, columns=list(COLUMNS))


def estimators_of(history: History) -> list[str]:
    """Return the names of the estimators in a history, in the order of its records."""
    return list(dict.fromkeys(record["estimator"] for record in history.records))


def main_estimator(history: History) -> str:
    """Return the estimator to show first: TwoNN, unless only others were measured."""
    found = estimators_of(history)
    return "twonn" if "twonn" in found else next(iter(found), "twonn")


def validation_of(record: Record) -> Validation:
    """Return stage, epoch and step of a record."""
    return record["stage"], record["epoch"], record["step"]


def in_order(records: Iterable[Record]) -> list[Record]:
    """Return records in the order of execution; layers that never ran are last."""
    return sorted(records, key=lambda r: math.inf if r["order"] is None else r["order"])


def folder_of(run: str | Path, prefix: str) -> Path:
    """Return where the callback of a prefix keeps its files, so that two do not share them.

    Args:
        run: The folder of the run.
        prefix: What the keys of the callback begin with.

    Returns:
        The folder of the run, and below it that of the prefix, if there is one.

    Example:
        >>> folder_of("runs/version_0", "train/").as_posix()
        'runs/version_0/train'
    """
    return Path(run) / prefix.strip("/")


def has_value(record: Record) -> bool:
    """Tell whether a record holds an estimate.

    Args:
        record: One record of a history.

    Returns:
        False where ``value`` is NaN or None; ``reason`` says why.
    """
    return record["value"] is not None and not math.isnan(record["value"])


def _write(path: Path, columns: dict[str, type], records: list[Record], start: int) -> None:
    fresh = start == 0
    with path.open("w" if fresh else "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        if fresh:
            writer.writeheader()
        writer.writerows(records[start:])


def _read(path: Path, columns: dict[str, type]) -> list[Record]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        unknown = set(reader.fieldnames or ()) - columns.keys()
        if unknown or not reader.fieldnames:
            raise ValueError(
                f"Expected columns of {list(columns)} in {path}, got {reader.fieldnames}"
            )
        return [
            {name: columns[name](row[name]) if row.get(name) else None for name in columns}
            for row in reader
        ]
