"""The tidy records: one per validation, layer and estimator."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, Any]

COLUMNS: dict[str, type] = {
    "stage": str,
    "epoch": int,
    "step": int,
    "layer": str,
    "role": str,
    "order": int,
    "depth": float,
    "ambient_dimension": int,
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
BEFORE_TRAINING = "before_training"  # stage of the measurement of the network as it was given


class History:
    """What was measured, as a list of plain dictionaries.

    Attributes:
        records: One dictionary per validation, layer and estimator, with the keys of `COLUMNS`:
            the stage (``"before_training"``, ``"fit"``, ``"validate"``, ``"test"``), epoch and
            logger step of the validation; the layer, its place in the order of execution, its
            relative depth and its width; the estimator and its `lightning_id.functional.Estimate`;
            seconds spent; ``reason`` where there is no value. Values are str, int, float or None.

    Example:
        >>> history = History()
        >>> history.append(stage="fit", epoch=0, step=9, layer="fc", estimator="twonn", value=7.5)
        >>> history.records[0]["value"], history.records[0]["reason"]
        (7.5, None)
    """

    def __init__(self, records: list[Record] | None = None) -> None:
        self.records: list[Record] = [] if records is None else records

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

    def validations(self) -> list[tuple[str, int, int]]:
        """Return stage, epoch and step of every measured validation, in order."""
        return list(dict.fromkeys((r["stage"], r["epoch"], r["step"]) for r in self.records))

    def at(self, validation: tuple[str, int, int], estimator: str) -> list[Record]:
        """Return the records of one validation and estimator, in the order of execution.

        Args:
            validation: Stage, epoch and step.
            estimator: For example ``"twonn"``.

        Returns:
            One record per layer.
        """
        found = [
            r
            for r in self.records
            if r["estimator"] == estimator and (r["stage"], r["epoch"], r["step"]) == validation
        ]
        return sorted(found, key=lambda r: r["order"])

    def to_csv(self, path: str | Path, start: int = 0) -> None:
        """Write the records as CSV: all of them, or append those from ``start`` on to the file.

        Args:
            path: The file.
            start: Records already in the file.
        """
        fresh = start == 0
        with Path(path).open("w" if fresh else "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if fresh:
                writer.writeheader()
            writer.writerows(self.records[start:])

    @classmethod
    def load(cls, path: str | Path) -> "History":
        """Read what `to_csv` wrote.

        Args:
            path: The file.

        Returns:
            The history.

        Raises:
            ValueError: If the file has other columns.
        """
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            unknown = set(reader.fieldnames or ()) - COLUMNS.keys()
            if unknown or not reader.fieldnames:
                raise ValueError(
                    f"Expected a history with columns of {list(COLUMNS)} in {path},"
                    f" got {reader.fieldnames}"
                )
            history = cls()
            for row in reader:
                history.append(
                    **{
                        name: None if text == "" else COLUMNS[name](text)
                        for name, text in row.items()
                    }
                )
        return history

    def to_pandas(self) -> "pd.DataFrame":
        """Return the records as a tidy data frame: a row each, the columns of `COLUMNS`."""
        import pandas as pd  # noqa: PLC0415 - only those who ask for a data frame need pandas

        return pd.DataFrame(self.records, columns=list(COLUMNS))


def has_value(record: Record) -> bool:
    """Tell whether a record holds an estimate.

    Args:
        record: One record of a history.

    Returns:
        False where ``value`` is NaN or None; ``reason`` says why.
    """
    return record["value"] is not None and not math.isnan(record["value"])
