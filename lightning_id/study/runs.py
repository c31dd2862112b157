"""The folder of a study: a folder for each training, and the table of all of them."""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning_id.study.grid import Settings
from lightning_id.study.run import Outcome

Row = dict[str, Any]

RESULTS = (
    "id_train",
    "id_train_se",
    "id_test",
    "id_test_se",
    "peak_train",
    "peak_test",
    "peak_depth_train",
    "peak_depth_test",
    "peak_over_last_train",
    "peak_over_last_test",
    "train_accuracy",
    "test_accuracy",
    "test_error",
    "gap",
    "seconds",
    "cpu_seconds",
)
NOTES = "date", "versions", "reason"
_RESULT, _FAILURE = "result.json", "failure.json"


class Runs:
    """The finished trainings of a study, each in a folder named after its settings.

    It holds ``settings.json``, ``history.csv`` and, written last and at once, ``result.json``, or
    ``failure.json`` after a failure.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def folder_of(self, settings: Settings) -> Path:
        """Return the folder of a training."""
        return self.folder / "runs" / settings.identity

    def is_finished(self, settings: Settings) -> bool:
        """Tell whether a training ended with a result; one that failed is tried again."""
        return (self.folder_of(settings) / _RESULT).exists()

    def save(self, outcome: Outcome) -> None:
        """Write how a training ended."""
        folder = self.folder_of(outcome.settings)
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "settings.json", asdict(outcome.settings))
        if outcome.result is None:
            _write_json(folder / _FAILURE, {"reason": outcome.reason})
            return
        if outcome.history is not None:
            outcome.history.save(folder)
        _write_json(folder / _RESULT, outcome.result)
        (folder / _FAILURE).unlink(missing_ok=True)

    def rows(self, trainings: Iterable[Settings]) -> list[Row]:
        """Return the table: a row for each training, whether it has ended or not."""
        return [self._row(settings) for settings in trainings]

    def _row(self, settings: Settings) -> Row:
        folder = self.folder_of(settings)
        result: dict[str, Any] = {}
        reason = None
        if (folder / _RESULT).exists():
            result = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        elif (folder / _FAILURE).exists():
            reason = json.loads((folder / _FAILURE).read_text(encoding="utf-8"))["reason"]
        else:
            reason = "not run yet"
        return {
            "run": settings.identity,
            "cell": settings.cell,
            **asdict(settings),
            **{name: result.get(name) for name in (*RESULTS, *NOTES)},
            "reason": reason,
        }


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write the table of a study as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def _write_json(path: Path, content: Any) -> None:
    """Write a file that appears whole or not at all."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(scratch, path)
