"""Tables of a history: rows of cells, and their layout in a terminal and in Markdown."""

import math
import re
from collections.abc import Sequence

from lightning_id.functional.estimate import NORMAL_975
from lightning_id.functional.registry import estimator_spec
from lightning_id.history.differences import Difference
from lightning_id.history.queries import before_training, estimators, last
from lightning_id.history.records import History, Record, Validation, has_value


def layer_rows(
    history: History, shown: Sequence[Validation], estimators: Sequence[str]
) -> list[list[str]]:
    """Return a header and a row for each layer: name, depth, width, dimensions with errors."""
    header = ["layer", "depth", "width"]
    titles = [estimator_spec(name).title for name in estimators]
    for validation in shown:
        is_first = validation is shown[0]
        header += [t if is_first else f"{t.removesuffix(' 90 %')} before" for t in titles]
    columns = [
        {record["layer"]: record for record in history.at(validation, estimator)}
        for validation in shown
        for estimator in estimators
    ]
    n_first = len(estimators)
    changes = {
        layer: change
        for column in columns[:1]
        for layer, record in column.items()
        if has_value(record) and (change := change_with_error(record))
    }
    if changes:
        header.insert(3 + n_first, "change")
    rows = [header]
    for layer, record in next((column for column in columns if column), {}).items():
        depth = "" if record["depth"] is None else f"{record['depth']:.2f}"
        cells = [value_with_error(column[layer]) if layer in column else "-" for column in columns]
        cells[n_first:n_first] = [changes.get(layer, "-")] if changes else []
        rows.append([layer, depth, str(record["ambient_dimension"] or ""), *cells])
    return rows


def end_rows(history: History, names: Sequence[str] | None = None) -> list[list[str]]:
    """Return the `layer_rows` of the last measurement and of the one before training."""
    newest, before = last(history), before_training(history)
    if newest is None:
        return []
    measured = estimators(history)
    known = [name for name in ("twonn", "pca") if name in measured] or measured
    shown = [newest] if before is None or before == newest else [newest, before]
    return layer_rows(history, shown, known if names is None else names)


def end_table(
    history: History, names: Sequence[str] | None = None, columns: int | None = None
) -> str:
    """Return `end_rows` as text; columns before training that exceed a width are left out."""
    rows = end_rows(history, names)
    if not rows:
        return "Nothing was measured."
    before = [title for title in rows[0] if title.endswith("before")]
    while before and columns is not None and len(aligned(rows).splitlines()[1]) > columns:
        i = rows[0].index(before.pop(0 if "change" in rows[0] else -1))
        rows = [row[:i] + row[i + 1 :] for row in rows]
    return aligned(rows)


def end_notes(history: History) -> list[str]:
    """Return the caveats of the values of `end_table`, one sentence each."""
    newest = last(history)
    if newest is None:
        return []
    records = {
        name: list(filter(has_value, history.at(newest, name))) for name in estimators(history)
    }
    errors = [r["std_error"] for of_estimator in records.values() for r in of_estimator]
    has_bars = any(error is not None and math.isfinite(error) for error in errors)
    notes = ["± is half of a 95 % interval."] if has_bars else []
    for name, of_estimator in records.items():
        spec = estimator_spec(name)
        bound = spec.lower_bound_above
        if bound is not None and any(r["value"] > bound for r in of_estimator):
            notes.append(f"Above about {bound} {spec.title} is usually too low.")
    return notes


def value_with_error(record: Record) -> str:
    """Return a value with half of its 95 % interval, ``"12.10 ± 0.61"``; ``"-"`` without one."""
    if not has_value(record):
        return "-"
    if record["std_error"] is None or math.isnan(record["std_error"]):
        return f"{record['value']:g}"
    return f"{record['value']:.2f} ± {NORMAL_975 * record['std_error']:.2f}"


def change_with_error(record: Record) -> str | None:
    """Return the change since the first measurement, ``"-3.10 ± 0.42"``; None without one."""
    value, error = record["change"], record["change_std_error"]
    if value is None or not math.isfinite(value):
        return None
    return str(Difference(value, math.nan if error is None else error, is_paired=True))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text in columns, the first to the left; the header is the first row.

    >>> print(aligned([["layer", "width"], ["conv1", "8"]]))
    layer  width
    ------------
    conv1      8
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip()
        for cells in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown_table(rows: Sequence[Sequence[str]], rest: str = "---:") -> str:
    """Return rows of Markdown cells as a table; ``rest`` aligns the columns after the first."""
    if not rows:
        return ""
    head, *body = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([head, f"|{'|'.join(['---'] + [rest] * (len(rows[0]) - 1))}|", *body])


def markdown_text(text: str) -> str:
    """Return text on one line, with the special characters of Markdown escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text.replace("\n", " "))
