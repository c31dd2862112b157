"""The runs of a report, and which of their measurements it speaks of."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_id.figures._data import FIT, last_of
from lightning_id.figures._data import profiles as drawable
from lightning_id.history import (
    BEFORE_TRAINING,
    RECORDS_FILE,
    History,
    Record,
    Validation,
    main_estimator,
    validation_of,
)


@dataclass(frozen=True)
class Run:
    """A history and what it is called.

    Attributes:
        name: What the report calls it.
        history: What was measured.
    """

    name: str
    history: History


def load_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Read the histories of runs; each is named by the part of its path that the others lack.

    Args:
        paths: Folders of runs, or the CSV files of their records.

    Returns:
        The runs, in the order given.

    Raises:
        FileNotFoundError: If a path does not exist or has no history.
        ValueError: If a file is no history.
    """
    files = [_history_file(Path(path)) for path in paths]
    return [Run(name, History.load(file)) for name, file in zip(_names(files), files, strict=True)]


def trained(history: History) -> Validation | None:
    """Return the last measurement of the fit, else the last there is.

    Args:
        history: What was measured.

    Returns:
        Stage, epoch and step; None for an empty history.
    """
    validations = history.validations()
    return last_of(validations) if validations else None


def untrained(history: History) -> Validation | None:
    """Return the measurement before training, on the same data as that of the trained network.

    Args:
        history: What was measured.

    Returns:
        Stage, epoch and step; None where there is none.
    """
    found = [v for v in _on_the_data_of_the_last(history) if v[0] == BEFORE_TRAINING]
    return next(iter(found), None)


def first(history: History) -> Validation | None:
    """Return the measurement that the trained network is compared with.

    Args:
        history: What was measured.

    Returns:
        The one before training, else the first of the fit on the same data; None where there is
        only one.
    """
    fitted = [v for v in _on_the_data_of_the_last(history) if v[0] == FIT]
    found = untrained(history) or next(iter(fitted), None)
    return None if found == trained(history) else found


def profile(history: History, validation: Validation | None, estimator: str) -> list[Record]:
    """Return the records of a measurement that have a value and a relative depth, in order.

    Args:
        history: What was measured.
        validation: Stage, epoch and step; None for no measurement.
        estimator: Which dimension.

    Returns:
        One record per layer.
    """
    return [] if validation is None else profiles(history, estimator).get(validation, [])


def profiles(history: History, estimator: str) -> dict[Validation, list[Record]]:
    """Return the `profile` of every measurement, in one pass over the history.

    Args:
        history: What was measured.
        estimator: Which dimension.

    Returns:
        The records by stage, epoch and step: the last of a layer, where a step was measured twice.
    """
    return {
        validation: list({record["layer"]: record for record in records}.values())
        for validation, records in drawable(history, estimator).items()
    }


def has_profile(history: History) -> bool:
    """Tell whether any layer has a dimension, at any measurement."""
    return bool(profiles(history, main_estimator(history)))


def describe(validation: Validation) -> str:
    """Return a measurement in words.

    Args:
        validation: Stage, epoch and step.

    Returns:
        For example ``"epoch 1, step 938"``: epochs are counted from 1, as people do.
    """
    stage, epoch, step = validation
    if stage == BEFORE_TRAINING:
        return "before training"
    if stage == FIT:  # Lightning counts the epoch that runs from 0; after a fit, those that ended
        return f"epoch {epoch + 1}, step {step}"
    # A network that was profiled, or is validated as it is, has no training behind it.
    return f"{stage} after epoch {epoch}, step {step}" if step else stage


def _on_the_data_of_the_last(history: History) -> list[Validation]:
    data = {validation_of(record): record["data"] for record in history.records}
    last = trained(history)
    return [] if last is None else [v for v in data if data[v] == data[last]]


def _history_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        raise FileNotFoundError(
            f"Expected the folder of a run or its {RECORDS_FILE}, got {path}, which does not exist"
        )
    if (path / RECORDS_FILE).exists():
        return path / RECORDS_FILE
    below = sorted(str(file.parent) for file in path.rglob(RECORDS_FILE))
    raise FileNotFoundError(
        f"Expected {RECORDS_FILE} in the folder {path}, got none; "
        + (
            f"there is one in {', '.join(below)}"
            if below
            else "the callback writes it at the first validation that it measures"
        )
    )


def _names(files: Sequence[Path]) -> list[str]:
    paths = [
        file.resolve().parent if file.name == RECORDS_FILE else file.resolve() for file in files
    ]
    if len(set(paths)) == 1:
        return ["/".join(paths[0].parts[-2:])] * len(paths)
    common = Path(os.path.commonpath(paths))
    common = common.parent if common in paths else common  # a run may lie in the folder of another
    return [str(path.relative_to(common)) for path in paths]
