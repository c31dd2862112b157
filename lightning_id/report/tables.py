"""What a report says in tables: the layers, and how the numbers were made."""

import csv
import io
import math
import platform
from collections.abc import Iterable, Sequence
from typing import Any

from lightning_id.figures._data import records_of, samples_in_words
from lightning_id.history import COLUMNS, History, Record, estimators_of, has_value, validation_of
from lightning_id.history.tables import estimator_name, table_rows
from lightning_id.report.runs import Run, describe, trained, untrained
from lightning_id.versions import version_of

METHODS = {  # with the default arguments, which are those that the callback uses
    "twonn": "ratio of the distances to the second and the first neighbour, a line through the"
    " smallest 90 % of the ratios; 95 % intervals allow for shared neighbours",
    "twonn_gaussian": "TwoNN of as many Gaussian rows with the same covariance",
    "pca": "principal components that hold 90 % of the variance",
    "pca_standardized": "the same of columns that are scaled to unit variance first",
    "gride": "ratio of the distances to farther neighbours, maximum likelihood",
    "mle": "distances to the nearest neighbours, maximum likelihood",
    "participation_ratio": "squared sum of the eigenvalues over the sum of their squares",
    "effective_rank": "exponential of the entropy of the singular values over their sum",
}


def layer_table(history: History) -> list[list[str]]:
    """Return the layers of the trained network, beside the untrained one where it was measured.

    Args:
        history: What was measured.

    Returns:
        Rows of cells, the headline first; empty for an empty history.
    """
    last, before = trained(history), untrained(history)
    if last is None:
        return []
    shown = [last] if before is None or before == last else [last, before]
    return table_rows(history, shown, estimators_of(history))


def how_made(history: History) -> list[tuple[str, str]]:
    """Return how the numbers were made, as terms and what they are.

    Args:
        history: What was measured.

    Returns:
        Data, rows, precision, measurements, estimators, cost and versions.
    """
    records = history.records
    whole = [record for record in records if record["label"] is None]
    validations = list(map(describe, history.validations()))
    first_and_last = f": {validations[0]} to {validations[-1]}" if len(validations) > 1 else ""
    facts = [
        ("Data", samples_in_words(whole) + " in each measurement" if whole else ""),
        ("Rows made by", _distinct(records, "reduce")),
        ("Precision", _distinct(records, "dtype")),
        ("Computed by", _distinct(records, "backend")),
        ("Measurements", f"{len(validations)}{first_and_last}"),
        *[
            (estimator_name(name), METHODS.get(name, "registered by the user"))
            for name in estimators_of(history)
        ],
        ("Cost", _cost(history)),
        ("Versions", versions()),
    ]
    return [(term, fact) for term, fact in facts if fact]


def cost_table(history: History) -> list[list[str]]:
    """Return what each number of the trained network was made from.

    Args:
        history: What was measured.

    Returns:
        Rows of cells, the headline first: samples given and used, duplicates, ties, distance from
        the fitted law, seconds.
    """
    last = trained(history)
    rows = [["layer", "estimator", "samples", "used", "duplicates", "ties", "misfit", "seconds"]]
    for name in estimators_of(history):
        for record in records_of(history, name).get(last, []) if last else []:
            counts = [record[c] for c in ("n_samples", "n_used", "n_duplicates", "n_ties")]
            rows.append(
                [
                    record["layer"],
                    estimator_name(name),
                    *("" if count is None else str(count) for count in counts),
                    _number(record["goodness"], ".3f"),
                    _number(record["seconds"], ".3f"),
                ]
            )
    return rows


def versions() -> str:
    """Return the versions with which the page is made; a history does not hold those of the run."""
    packages = ", ".join(f"{name} {version_of(name)}" for name in ("lightning-id", "torch"))
    return f"this page was made with {packages}, Python {platform.python_version()}"


def tidy_csv(runs: Sequence[Run]) -> str:
    """Return the records of all runs as CSV.

    Args:
        runs: The runs.

    Returns:
        A column ``run``, then those of `lightning_id.history.COLUMNS`.
    """
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["run", *COLUMNS])
    writer.writeheader()
    for run in runs:
        writer.writerows({"run": run.name} | record for record in run.history.records)
    return file.getvalue()


def _cost(history: History) -> str:
    last = trained(history)
    seconds = [(record["seconds"] or 0.0, record) for record in history.records]
    if last is None:
        return ""
    whole = sum(each for each, _ in seconds)
    at_last = sum(each for each, r in seconds if validation_of(r) == last)
    return f"{whole:.1f} s of estimating in all, {at_last:.2f} s for the table ({describe(last)})"


def _distinct(records: Iterable[Record], column: str) -> str:
    found = dict.fromkeys(r[column] for r in records if has_value(r) and r[column])
    return ", ".join(found)


def _number(value: Any, form: str) -> str:
    return "" if value is None or math.isnan(value) else format(value, form)
