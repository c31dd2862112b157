"""Records of a history, one for each measurement, layer and estimator, and their files."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor
from typing_extensions import ReadOnly, TypedDict, get_type_hints

from lightning_id.functional.eigenvalues import LaterSpectrum

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BEFORE_TRAINING = "before_training"  # stage of the measurement before the first step
FIT = "fit"

RECORDS_FILE = "history.csv"
METRICS_FILE = "history_metrics.csv"  # CSVLogger writes metrics.csv into the same folder
SPECTRA_FILE = "history_spectra.npz"


class Validation(NamedTuple):
    """When a measurement was made."""

    stage: str
    epoch: int
    step: int


class Record(TypedDict):
    """One estimate: see `History.records`. A missing number is None or NaN."""

    stage: str
    epoch: int
    step: int
    data: str | None
    layer: str
    role: str | None
    order: int | None
    depth: ReadOnly[float | None]
    ambient_dimension: int | None
    label: str | None
    estimator: str
    value: ReadOnly[float | None]
    std_error: float | None
    low: float | None
    high: float | None
    n_samples: int | None
    n_used: int | None
    n_duplicates: int | None
    n_ties: int | None
    goodness: float | None
    dtype: str | None
    seconds: float | None
    reason: str | None
    note: str | None
    backend: str | None
    reduce: str | None
    change: float | None
    change_std_error: float | None
    change_previous: float | None
    change_previous_std_error: float | None
    computation: str | None
    change_lowest: float | None
    change_lowest_std_error: float | None
    from_input: float | None
    from_input_std_error: float | None
    from_peak: float | None
    from_peak_std_error: float | None


class Estimated(Record):
    """A record with a value."""

    value: ReadOnly[float]


class Placed(Estimated):
    """A record with a value and a relative depth."""

    depth: ReadOnly[float]


R = TypeVar("R", bound=Record)
Spectra = dict[Validation, dict[str, Tensor]]  # eigenvalues by measurement and layer
LaterSpectra = Mapping[str, Tensor | LaterSpectrum]


class Metric(TypedDict):
    """One number logged by the user's code."""

    stage: str
    epoch: int
    step: int
    name: str
    value: float | None


def _types(record: type) -> dict[str, type]:
    """Return the type of each column of a record, without None."""
    hints = get_type_hints(record)
    return {name: next(iter(get_args(hint)), hint) for name, hint in hints.items()}


COLUMNS = _types(Record)  # of the file, in this order
METRIC_COLUMNS = _types(Metric)


class History:
    """All measurements of a run, as lists of plain dictionaries.

    Attributes:
        records: One dictionary for each measurement, layer and estimator, with the keys of
            `COLUMNS`: stage (``"before_training"``, ``"fit"``, ``"validate"``, ``"test"``), epoch
            and step (the logger's at a validation, else optimiser steps taken); name of the sample
            set; layer, its place in the order of execution, relative depth and width; class label
            of the record of one class; estimator and its `lightning_id.functional.Estimate`;
            seconds; ``reason`` for a missing value. Values are str, int, float or None.
        metrics: Metrics logged by the user's code from the first measurement on, one dictionary for
            each number with the keys of `METRIC_COLUMNS`: of every validation, measured or not, and
            the final means over every training epoch, both at the step of the logger.
        spectra_by_set: Eigenvalues of the covariance by layer, largest first, of the first
            measurement and the last of each stage, by sample set, then by stage, epoch and step.

    Example:
        >>> history = History()
        >>> history.append(stage="fit", epoch=0, step=9, layer="fc", estimator="twonn", value=7.5)
        >>> history.records[0]["value"], history.records[0]["reason"]
        (7.5, None)
    """

    def __init__(
        self, records: list[Record] | None = None, metrics: list[Metric] | None = None
    ) -> None:
        self.records: list[Record] = [] if records is None else records
        self.metrics: list[Metric] = [] if metrics is None else metrics
        self.spectra_by_set: dict[str | None, Spectra] = {}
        self._later: dict[str | None, tuple[Validation, LaterSpectra]] = {}  # the last, by set

    def __repr__(self) -> str:
        count = f"{len(self.records)} records of {len(self.validations())} measurements"
        return f"History({count}; .records, .to_pandas(), .save(folder))"

    def append(self, **fields: Any) -> None:
        """Add a record of values by column; columns left out are None."""
        unknown = fields.keys() - COLUMNS.keys()
        if unknown:
            raise ValueError(f"Expected columns of {list(COLUMNS)}, got {sorted(unknown)}")
        record: Any = {name: fields.get(name) for name in COLUMNS}
        self.records.append(record)

    def append_metrics(
        self, validation: tuple[str, int, int], metrics: Mapping[str, float]
    ) -> None:
        """Add metrics of the user's code, of a validation or of the end of a training epoch."""
        stage, epoch, step = validation
        self.metrics += [
            {"stage": stage, "epoch": epoch, "step": step, "name": name, "value": value}
            for name, value in metrics.items()
        ]

    @property
    def spectra(self) -> Spectra:
        """Spectra of the first sample set."""
        self.solve_spectra()
        first = next(iter(self.sample_sets()), None)
        return self.spectra_by_set.get(first) or self.spectra_by_set.get(None, {})

    def keep_spectra(
        self, validation: tuple[str, int, int], spectra: LaterSpectra, data: str | None = None
    ) -> None:
        """Keep the eigenvalues by layer of the first measurement and the last of each stage.

        Where some are still to be computed, these are in no file or checkpoint before
        `solve_spectra`.
        """
        if data in self._later and self._later[data][0].stage != validation[0]:
            self.solve_spectra()
        kept = self.spectra_by_set.setdefault(data, {})
        for later in list(kept)[1:]:
            if later.stage == validation[0]:
                del kept[later]
        self._later[data] = Validation(*validation), spectra
        if not any(isinstance(each, LaterSpectrum) for each in spectra.values()):
            self.solve_spectra()

    def solve_spectra(self) -> bool:
        """Compute the spectra of the last measurement; return whether they were put off."""
        is_due = bool(self._later)
        for data, (validation, spectra) in self._later.items():
            self.spectra_by_set.setdefault(data, {})[validation] = {
                layer: each.eigenvalues if isinstance(each, LaterSpectrum) else each
                for layer, each in spectra.items()
            }
        self._later.clear()
        return is_due

    def state_dict(self) -> dict[str, Any]:
        """Return the history in plain types, which ``torch.load(weights_only=True)`` reads."""
        spectra = {
            (*validation, data): layers
            for data, of_set in self.spectra_by_set.items()
            for validation, layers in of_set.items()
        }
        return {"records": self.records, "metrics": self.metrics, "spectra": spectra}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Replace the content by that of a `state_dict`."""
        self.records[:], self.metrics[:] = state_dict["records"], state_dict["metrics"]
        self.spectra_by_set.clear()
        self._later.clear()
        for (stage, epoch, step, data), layers in state_dict["spectra"].items():
            of_set = self.spectra_by_set.setdefault(data, {})
            of_set[Validation(stage, epoch, step)] = layers

    def validations(self) -> list[Validation]:
        """Return stage, epoch and step of every measurement, in order."""
        found = dict.fromkeys((r["stage"], r["epoch"], r["step"]) for r in self.records)
        return [Validation(*place) for place in found]

    def sample_sets(self) -> list[str]:
        """Return the names of the sample sets of the fit, or of all stages if there is no fit.

        Example:
            >>> history = History()
            >>> for data in ("val", "train"):
            ...     history.append(stage="fit", epoch=0, step=9, data=data, estimator="twonn")
            >>> history.sample_sets()
            ['val', 'train']
        """
        names = [(r["stage"] in (BEFORE_TRAINING, FIT), r["data"]) for r in self.records]
        found = [name for in_fit, name in names if in_fit] or [name for _, name in names]
        return list(dict.fromkeys(name for name in found if name is not None))

    def of_set(self, name: str) -> "History":
        """Return the history of one sample set, with all metrics.

        The first set has the records of later validations and tests too. Records are shared.
        """
        first, *others = self.sample_sets() or [name]
        if name == first:
            kept = [r for r in self.records if r["data"] not in others]
        else:
            kept = [r for r in self.records if r["data"] == name]
        history = History(kept, self.metrics)
        history.spectra_by_set, history._later = self.spectra_by_set, self._later
        return history

    def at(self, validation: tuple[str, int, int], estimator: str) -> list[Record]:
        """Return the records of one measurement and estimator, in the order of execution.

        Records of single classes are left out, and so are all sample sets but the first.
        """
        stage, epoch, step = validation
        found = [
            record
            for record in self.records
            if record["step"] == step
            and record["estimator"] == estimator
            and record["label"] is None
            and (record["stage"], record["epoch"]) == (stage, epoch)
        ]
        return in_order(of_first_set(found))

    def to_csv(self, path: str | Path, start: int = 0) -> None:
        """Write the records as CSV: all of them, or append all from ``start`` on."""
        _write(Path(path), COLUMNS, self.records, start)

    def save(self, folder: str | Path, start: int = 0, start_metrics: int = 0) -> None:
        """Write ``history.csv``, ``history_metrics.csv`` and ``history_spectra.npz`` into a folder.

        Args:
            folder: The folder, which is created if necessary.
            start: Number of records already in history.csv: later ones are appended.
            start_metrics: Number of metrics already in history_metrics.csv.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.to_csv(folder / RECORDS_FILE, start)
        _write(folder / METRICS_FILE, METRIC_COLUMNS, self.metrics, start_metrics)
        if any(self.spectra_by_set.values()):
            arrays = {
                f"{data or ''}:{'/'.join(map(str, validation))}/{layer}": values.float().numpy()
                for data, spectra in self.spectra_by_set.items()
                for validation, layers in spectra.items()
                for layer, values in layers.items()
            }
            with (folder / SPECTRA_FILE).open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub knows no keywords

    @classmethod
    def load(cls, path: str | Path) -> "History":
        """Read a history from the folder of a run, or from the CSV file of its records.

        Metrics and spectra are read from the same folder if their files exist.

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
                    place, epoch, step, layer = key.split("/", 3)
                    data, _, stage = place.rpartition(":")
                    of_set = history.spectra_by_set.setdefault(data or None, {})
                    of_layer = of_set.setdefault(Validation(stage, int(epoch), int(step)), {})
                    of_layer[layer] = torch.from_numpy(arrays[key])
        return history

    def plot(self, kind: str = "depth_profile", **options: str) -> "Figure":
        """Draw a figure: see `lightning_id.figures.plot`.

        A notebook shows the returned matplotlib figure after ``%matplotlib inline``.

        Example:
            >>> figure = History().plot("heat_map")
            >>> figure.savefig("heat_map.png")  # doctest: +SKIP
        """
        # Figures import this module, and matplotlib.
        figure: Figure = import_module("lightning_id.figures").plot(self, kind, **options)
        return figure

    def to_pandas(self) -> "pd.DataFrame":
        """Return the records as a tidy data frame: a row each, the columns of `COLUMNS`."""
        import pandas as pd  # noqa: PLC0415 - needed for data frames only

        return pd.DataFrame(self.records, columns=list(COLUMNS))


def validation_of(entry: Record | Metric) -> Validation:
    """Return stage, epoch and step of a record or a metric."""
    return Validation(entry["stage"], entry["epoch"], entry["step"])


def of_first_set(records: Sequence[R]) -> list[R]:
    """Return the records of the sample set of the first one; a record may name none."""
    return [record for record in records if record["data"] in (None, records[0]["data"])]


def in_order(records: Iterable[R]) -> list[R]:
    """Return records in the order of execution; layers that never ran are last."""
    return sorted(records, key=lambda r: math.inf if r["order"] is None else r["order"])


def has_value(record: Record) -> TypeGuard[Estimated]:
    """Return whether a record holds an estimate; ``reason`` explains a missing one."""
    return record["value"] is not None and not math.isnan(record["value"])


def folder_of(run: str | Path, prefix: str) -> Path:
    """Return the folder for the files of a callback: below that of the run, if it has a prefix."""
    return Path(run) / prefix.strip("/")


def _write(path: Path, columns: dict[str, type], records: Iterable[Any], start: int) -> None:
    fresh = start == 0
    with path.open("w" if fresh else "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        if fresh:
            writer.writeheader()
        writer.writerows(list(records)[start:])


def _read(path: Path, columns: dict[str, type]) -> list[Any]:
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
