"""A history in the terminal: one line per validation, and the table at the end."""

import math
from collections.abc import Mapping
from typing import Any

from lightning_id.history import BEFORE_TRAINING, History, Record, has_value


def validation_line(metrics: Mapping[str, Any], name: str, history: History) -> str:
    """Return one line on a validation: accuracy, last hidden dimension, peak and where it is.

    Args:
        metrics: What was logged, by key; numbers or tensors with one.
        name: What the line begins with, for example ``"epoch 3"``.
        history: The history, whose last validation tells the layer of the peak.

    Returns:
        The line; what was not measured is left out.
    """
    parts = [name]
    for key, label in (("val_acc", "val_acc"), ("id/last_hidden", "id/last_hidden")):
        if key in metrics:
            parts.append(f"{label} {float(metrics[key]):.4g}")
    profile = _profile(history, -1)
    if profile:
        peak = max(profile, key=lambda record: float(record["value"]))
        parts.append(f"id/peak {peak['value']:.4g} at {peak['layer']} (depth {peak['depth']:.2f})")
    return "  ".join(parts)


def end_table(history: History) -> str:
    """Return the last validation layer by layer, beside the network before training.

    Args:
        history: What was measured.

    Returns:
        A table with relative depth, width, TwoNN with its standard error and the PCA components for
        90 % of the variance; the same before training, where that was measured.
    """
    validations = history.validations()
    if not validations:
        return "Nothing was measured."
    before = [validation for validation in validations if validation[0] == BEFORE_TRAINING]
    shown = [validations[-1], *before[:1]] if before[:1] != validations[-1:] else validations[-1:]
    header = ["layer", "depth", "width", "TwoNN", "PCA 90 %"]
    if len(shown) > 1:
        header += ["TwoNN before", "PCA before"]
    rows = [header]
    for record in history.at(shown[0], "twonn") or history.at(shown[0], "pca"):
        depth = "" if record["depth"] is None else f"{record['depth']:.2f}"
        row = [record["layer"], depth, str(record["ambient_dimension"] or "")]
        for validation in shown:
            row.append(_with_error(_find(history, validation, "twonn", record["layer"])))
            row.append(_with_error(_find(history, validation, "pca", record["layer"])))
        rows.append(row)
    return _aligned(rows)


def _profile(history: History, index: int) -> list[Record]:
    validations = history.validations()
    if not validations:
        return []
    records = history.at(validations[index], "twonn")
    return [r for r in records if has_value(r) and r["depth"] is not None]


def _find(
    history: History, validation: tuple[str, int, int], estimator: str, layer: str
) -> Record | None:
    found = [r for r in history.at(validation, estimator) if r["layer"] == layer]
    return found[0] if found else None


def _with_error(record: Record | None) -> str:
    if record is None or not has_value(record):
        return "-"
    if record["std_error"] is None or math.isnan(record["std_error"]):
        return f"{record['value']:g}"
    return f"{record['value']:.2f} ± {record['std_error']:.2f}"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
