"""Tables of a report: the layers, and how their numbers were made."""

import csv
import io
import math
import platform
from collections.abc import Iterable, Mapping
from typing import Literal

from lightning_id._checks import version_of
from lightning_id.functional import estimator_spec
from lightning_id.history import COLUMNS, History, Record, has_value, validation_of
from lightning_id.history.queries import (
    before_training,
    describe,
    describe_samples,
    estimators,
    last_of_fit,
)
from lightning_id.history.tables import layer_rows


def layer_table(history: History) -> list[list[str]]:
    """Return the layers of the trained network, and of the untrained one if it was measured."""
    last, before = last_of_fit(history.validations()), before_training(history)
    shown = [v for v in dict.fromkeys((last, before)) if v is not None]
    return layer_rows(history, shown, estimators(history)) if shown else []


def how_made(history: History) -> list[tuple[str, str]]:
    """Return terms and facts: data, rows, precision, measurements, estimators, cost, versions."""
    records = history.records
    whole = [record for record in records if record["label"] is None]
    validations = list(map(describe, history.validations()))
    first_and_last = f": {validations[0]} to {validations[-1]}" if len(validations) > 1 else ""
    specs = map(estimator_spec, estimators(history))
    facts = [
        ("Data", describe_samples(whole) + " in each measurement" if whole else ""),
        ("Rows made by", _distinct(records, "reduce")),
        ("Precision", _distinct(records, "dtype")),
        ("Computed by", _distinct(records, "backend")),
        ("Measurements", f"{len(validations)}{first_and_last}"),
        *[(spec.title, spec.method) for spec in specs],
        ("Cost", _cost(history)),
        ("Versions", versions()),
    ]
    return [(term, fact) for term, fact in facts if fact]


def cost_table(history: History) -> list[list[str]]:
    """Return samples, duplicates, ties, misfit and seconds of the trained network's estimates."""
    last = last_of_fit(history.validations())
    rows = [["layer", "estimator", "samples", "used", "duplicates", "ties", "misfit", "seconds"]]
    for name in estimators(history):
        for record in history.at(last, name) if last else []:
            counts = [record[c] for c in ("n_samples", "n_used", "n_duplicates", "n_ties")]
            cells = ["" if count is None else str(count) for count in counts]
            cells += [_number(record["goodness"]), _number(record["seconds"])]
            rows.append([record["layer"], estimator_spec(name).title, *cells])
    return rows


def versions() -> str:
    """Return the versions that made the page; a history does not hold the versions of the run."""
    packages = ", ".join(f"{name} {version_of(name)}" for name in ("lightning-id", "torch"))
    return f"this page was made with {packages}, Python {platform.python_version()}"


def tidy_csv(runs: Mapping[str, History]) -> str:
    """Return the records of all runs as CSV: a column ``run``, then the columns of a history."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["run", *COLUMNS])
    writer.writeheader()
    for name, history in runs.items():
        writer.writerows({"run": name, **record} for record in history.records)
    return file.getvalue()


def _cost(history: History) -> str:
    last = last_of_fit(history.validations())
    if last is None:
        return ""
    total = sum(r["seconds"] or 0.0 for r in history.records)
    at_last = sum(r["seconds"] or 0.0 for r in history.records if validation_of(r) == last)
    return f"{total:.1f} s of estimating in all, {at_last:.2f} s for the table ({describe(last)})"


def _distinct(records: Iterable[Record], column: Literal["reduce", "dtype", "backend"]) -> str:
    return ", ".join(dict.fromkeys(r[column] or "" for r in records if has_value(r) and r[column]))


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"
