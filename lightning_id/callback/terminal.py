"""Terminal output: lines above the progress bar, a live table below it, the summary at the end."""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_id.callback.trainers import AnyTrainer, callbacks_of
from lightning_id.history import RECORDS_FILE, History
from lightning_id.history.queries import last, profile
from lightning_id.history.tables import end_notes, end_rows, end_table
from lightning_id.recording.results import LayerResult

WIDTH = 80  # of the summary table where the output is no terminal


class Terminal:
    """Prints measurements where the Trainer shows a progress bar, on rank 0 only."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self._under: Any = None  # the Rich progress with a table below

    def show_plan(self, trainer: AnyTrainer, text: str) -> None:
        """Print the layers that are measured; log them where there is no bar."""
        bar = _bar(trainer)
        if bar is None:
            rank_zero_info(text)  # on rank 0, which has the bar if there is one
        else:
            _print_above(bar, text)

    def after_validation(
        self, trainer: AnyTrainer, history: History, metrics: Mapping[str, float], name: str
    ) -> None:
        """Print the progress line of a validation, and renew the table below a Rich bar."""
        bar = _bar(trainer)
        if bar is not None:
            _print_above(bar, validation_line(metrics, name, history, self.prefix, _columns()))
            self._put_table_under(bar, history)

    def at_end(self, trainer: AnyTrainer, history: History) -> None:
        """Print the summary table, when the bar is finished."""
        self.release()
        bar = _bar(trainer)
        if history.records and bar is not None and getattr(bar, "prints_tables", True):
            finish(trainer)
            heading = f"{self.prefix}\n" if self.prefix else ""
            notes = "".join(f"{note}\n" for note in end_notes(history))
            table = end_table(history, columns=_columns() or WIDTH)
            sys.stdout.write(f"\n{heading}{table}\n\n{notes}")
            sys.stdout.flush()

    def release(self) -> None:
        """Remove the table below the bar. Idempotent; safe to call at any point."""
        if self._under is not None:
            vars(self._under).pop("get_renderables", None)
            self._under = None

    def _put_table_under(self, bar: Any, history: History) -> None:
        progress: Any = getattr(bar, "progress", None)
        if not hasattr(progress, "get_renderables") or not history.records:
            return
        # Imported by the owner of the bar.
        from rich.table import Table  # noqa: PLC0415

        self.release()
        # Made here, once: an exception where the bar is redrawn would end the training.
        table = Table(box=None, pad_edge=False, header_style="dim")
        rows = end_rows(history)
        for i, title in enumerate(rows[0]):
            table.add_column(title, justify="right" if i else "left", no_wrap=True)
        for row in rows[1:]:
            table.add_row(*row)
        plain = progress.get_renderables
        progress.get_renderables = lambda: (*plain(), table)
        self._under = progress


def plan_table(results: Sequence[LayerResult], data: str, nbytes: Mapping[str, int]) -> str:
    """Return the measured layers as text, and the bytes of their rows by place of storage."""
    width = max((len(result.layer) for result in results), default=0)
    n_samples = max((e.n_samples for r in results for e in r.estimates.values()), default=0)
    lines = [
        f"Intrinsic dimension is measured in {len(results)} layers, of {n_samples} samples of"
        f" {data}:"
    ]
    for result in results:
        depth = "never called" if result.depth is None else f"depth {result.depth:.2f}"
        features = result.ambient_dimension
        size = "" if features is None else f"{features} features"
        lines.append(f"  {result.layer:<{width}}  {depth}  {size}".rstrip())
    for place, n in nbytes.items():
        where = "a temporary file" if place == "file" else f"{place} memory"
        lines.append(f"Their rows take {_gib(n)} in {where}.")
    return "\n".join(lines)


def _gib(nbytes: int) -> str:
    """Return bytes as text.

    >>> _gib(5_800_000_000), _gib(1_000_000)
    ('5.4 GiB', '0.00093 GiB')
    """
    size = nbytes / 2**30
    return f"{size:.2g} GiB" if size < 10 else f"{size:.0f} GiB"


def validation_line(
    metrics: Mapping[str, Any],
    name: str,
    history: History,
    prefix: str = "",
    columns: int | None = None,
) -> str:
    """Return the progress line of a validation, broken into the columns of the terminal."""
    keys = [key for key in (*_headline(metrics), f"{prefix}id/last_hidden") if key in metrics]
    parts = [name, *(f"{key} {float(metrics[key]):.4g}" for key in keys)]
    layers = profile(history, last(history), "twonn")
    if layers:
        peak = max(layers, key=lambda record: record["value"])
        parts.append(f"{prefix}id/peak {peak['value']:.4g} at {peak['layer']}")
    line = ""
    for part in parts:
        *_, end = line.split("\n")
        fits = columns is None or len(end) + 2 + len(part) <= columns
        line += part if not line else f"  {part}" if fits else f"\n  {part}"
    return line


def _headline(metrics: Mapping[str, Any]) -> list[str]:
    """Return the key of an accuracy of a validation, or else of a loss, if there is one."""
    for word in ("acc", "loss"):
        found = [key for key in sorted(metrics) if word in key and not key.startswith("train")]
        if found:
            return found[:1]
    return []


def finish(trainer: AnyTrainer) -> None:
    """Draw a Rich bar for the last time: Lightning would draw it again below later output."""
    stop = getattr(getattr(_bar(trainer), "progress", None), "stop", None)
    if stop is not None:
        stop()


def epoch_name(trainer: AnyTrainer) -> str:
    """Return the current epoch, counted from 0 as in the bar and in the history."""
    epochs = trainer.max_epochs or 0
    last = "" if epochs < 1 else f"/{epochs - 1}"
    return f"epoch {trainer.current_epoch}{last}"


def where_to_look(folder: Path, columns: int | None = None) -> str:
    """Return the path of a history and the command for a report, on two lines if need be."""
    # To be copied: relative where that is possible, and never broken within.
    inside = folder.is_relative_to(Path.cwd())
    path = str(folder.relative_to(Path.cwd()) if inside else folder)
    parts = f"{RECORDS_FILE} is in {path}:", f"lightning-id report {shlex.quote(path)}"
    fits = columns is None or sum(map(len, parts)) < columns
    return (" " if fits else "\n").join(parts)


def show_where(trainer: AnyTrainer, folder: Path) -> None:
    """Log the path of the history, unless another callback names the files of the run."""
    if not any(getattr(callback, "names_the_files", False) for callback in callbacks_of(trainer)):
        rank_zero_info(where_to_look(folder, _columns()))


def _columns() -> int | None:
    """Return the width of the terminal; None where the output is no terminal."""
    return shutil.get_terminal_size((0, 0)).columns or None


def _print_above(bar: Any, text: str) -> None:
    # Lightning's tqdm bars print nothing between two of them.
    is_tqdm = hasattr(bar, "init_train_tqdm")
    if is_tqdm and not any(getattr(each, "disable", True) is False for each in vars(bar).values()):
        sys.stdout.write(f"{text}\n")
        return
    # Rich computes in `print` how many lines to erase: not while its thread redraws the bar.
    live = getattr(getattr(bar, "progress", None), "live", None)
    with getattr(live, "_lock", nullcontext()):
        bar.print(text)


def _bar(trainer: AnyTrainer) -> Any:
    """Return the progress bar that this rank shows, or None."""
    bar: Any = trainer.progress_bar_callback
    return bar if trainer.is_global_zero and bar is not None and bar.is_enabled else None
