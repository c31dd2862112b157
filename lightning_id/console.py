"""A history in the terminal: one line per validation, and the table at the end."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_id.history import (
    BEFORE_TRAINING,
    History,
    Record,
    Validation,
    estimators_of,
    has_value,
)

ESTIMATOR_NAMES = {
    "twonn": "TwoNN",
    "twonn_gaussian": "Gaussian TwoNN",
    "pca": "PCA 90 %",
    "pca_standardized": "standardised PCA 90 %",
    "gride": "Gride",
    "mle": "MLE",
    "participation_ratio": "participation ratio",
    "effective_rank": "effective rank",
}
LOWER_BOUND_ABOVE = 20  # where TwoNN starts to underestimate (any dimension above is a lower bound)


def estimator_name(estimator: str) -> str:
    """Return what a table calls an estimator: its own name, if it is registered by the user."""
    return ESTIMATOR_NAMES.get(estimator, estimator)


def validation_line(
    metrics: Mapping[str, Any],
    name: str,
    history: History,
    prefix: str = "",
    columns: int | None = None,
) -> str:
    """Return one line on a validation: accuracy, last hidden dimension, peak and its layer.

    Args:
        metrics: What was logged, by key; numbers or tensors with one.
        name: What the line begins with, for example ``"epoch 3"``.
        history: The history, whose last validation tells the layer of the peak.
        prefix: Of the keys of the callback.
        columns: Width to keep within: what does not fit goes to further lines, never broken within.

    Returns:
        The line; what was not measured is left out.
    """
    keys = [key for key in (*_headline(metrics), f"{prefix}id/last_hidden") if key in metrics]
    parts = [name, *(f"{key} {float(metrics[key]):.4g}" for key in keys)]
    profile = _last_profile(history)
    if profile:
        peak = max(profile, key=lambda record: float(record["value"]))
        parts.append(f"{prefix}id/peak {peak['value']:.4g} at {peak['layer']}")
    line = ""
    for part in parts:
        *_, last = line.split("\n")
        fits = columns is None or len(last) + 2 + len(part) <= columns
        line += part if not line else f"  {part}" if fits else f"\n  {part}"
    return line


def _headline(metrics: Mapping[str, Any]) -> list[str]:
    """Return the key of an accuracy, or else of a loss, of a validation if there is one."""
    for word in ("acc", "loss"):
        found = [key for key in sorted(metrics) if word in key and not key.startswith("train")]
        if found:
            return found[:1]
    return []


def end_rows(history: History, estimators: Sequence[str] | None = None) -> list[list[str]]:
    """Return the last validation layer by layer, beside the network before training.

    Args:
        history: What was measured.
        estimators: Which dimensions to show; None for TwoNN and PCA, or else all that there is.

    Returns:
        The header and a row per layer: relative depth, width and each dimension with its standard
        error, if it has one; the same before training, where that was measured. Empty if nothing
        was measured.
    """
    validations = history.validations()
    if not validations:
        return []
    before = [validation for validation in validations if validation[0] == BEFORE_TRAINING]
    shown = [validations[-1], *before[:1]] if before[:1] != validations[-1:] else validations[-1:]
    measured = estimators_of(history)
    known = [name for name in ("twonn", "pca") if name in measured] or measured
    return table_rows(history, shown, known if estimators is None else estimators)


def end_table(
    history: History, estimators: Sequence[str] | None = None, columns: int | None = None
) -> str:
    """Return `end_rows` as text.

    Args:
        history: What was measured.
        estimators: See `end_rows`.
        columns: Width to keep within, by leaving out dimensions before training from the right.

    Returns:
        The table.
    """
    rows = end_rows(history, estimators)
    if not rows:
        return "Nothing was measured."
    while rows[0][-1].endswith("before") and columns is not None and _width(rows) > columns:
        rows = [row[:-1] for row in rows]
    return aligned(rows)


def end_notes(history: History) -> list[str]:
    """Return what a reader of `end_table` must know of its values."""
    last = [record for v in history.validations()[-1:] for record in history.at(v, "twonn")]
    is_high = any(has_value(record) and record["value"] > LOWER_BOUND_ABOVE for record in last)
    return [f"Above about {LOWER_BOUND_ABOVE} TwoNN is a lower bound."] if is_high else []


def table_rows(
    history: History, shown: Sequence[Validation], estimators: Sequence[str]
) -> list[list[str]]:
    """Return the cells of a table of layers: a headline, then one row per layer.

    Args:
        history: What was measured.
        shown: A validation, or that and the one before training to put beside it.
        estimators: Which dimensions to show.

    Returns:
        Name, relative depth and width of each layer, and each dimension at each validation.
    """
    header = ["layer", "depth", "width"]
    for validation in shown:
        names = list(map(estimator_name, estimators))
        if validation is not shown[0]:
            names = [f"{name.removesuffix(' 90 %')} before" for name in names]
        header += names
    columns = [
        {record["layer"]: record for record in history.at(validation, estimator)}
        for validation in shown
        for estimator in estimators
    ]
    rows = [header]
    for layer, record in next((column for column in columns if column), {}).items():
        depth = "" if record["depth"] is None else f"{record['depth']:.2f}"
        cells = [value_with_error(column[layer]) if layer in column else "-" for column in columns]
        rows.append([layer, depth, str(record["ambient_dimension"] or ""), *cells])
    return rows


def value_with_error(record: Record) -> str:
    """Return a dimension and its standard error as text.

    Args:
        record: One record of a history.

    Returns:
        For example ``"12.10 ± 0.31"``; the value alone where there is no error, ``"-"`` where there
        is no value.
    """
    if not has_value(record):
        return "-"
    if record["std_error"] is None or math.isnan(record["std_error"]):
        return f"{record['value']:g}"
    return f"{record['value']:.2f} ± {record['std_error']:.2f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return cells as text in columns.

    Args:
        rows: The headline first; all of one length.

    Returns:
        Lines, with a rule under the headline; the first column to the left, the others to the
        right.

    Example:
        >>> print(aligned([["layer", "width"], ["conv1", "8"]]))
        layer  width
        ------------
        conv1      8
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _width(rows: Sequence[Sequence[str]]) -> int:
    return max(map(len, aligned(rows).splitlines()))


def _last_profile(history: History) -> list[Record]:
    validations = history.validations()
    if not validations:
        return []
    records = history.at(validations[-1], "twonn")
    return [r for r in records if has_value(r) and r["depth"] is not None]
