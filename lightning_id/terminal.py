"""The callback in the terminal: lines above the progress bar, and under Rich's a live table."""

from collections.abc import Iterator, Mapping
from typing import Any

from lightning_id.history import History
from lightning_id.history.queries import estimators, last, profile
from lightning_id.history.tables import end_rows, end_table
from lightning_id.trainers import AnyTrainer


def validation_line(metrics: Mapping[str, Any], name: str, history: History) -> str:
    """Return the progress line of a validation: accuracy, last hidden dimension and peak.

    Args:
        metrics: Logged numbers by key.
        name: The beginning of the line, for example ``"epoch 3"``.
        history: The history, whose newest measurement has the peak.

    Returns:
        The line, without the numbers that were not measured.
    """
    keys = [key for key in (*_headline(metrics), "id/last_hidden") if key in metrics]
    parts = [name, *(f"{key} {float(metrics[key]):.4g}" for key in keys)]
    layers = profile(history, last(history), "twonn")
    if layers:
        peak = max(layers, key=lambda record: record["value"])
        parts.append(f"id/peak {peak['value']:.4g} at {peak['layer']} (depth {peak['depth']:.2f})")
    return "  ".join(parts)


def _headline(metrics: Mapping[str, Any]) -> list[str]:
    """Return the key of an accuracy of a validation, or else of a loss, if there is one."""
    for word in ("acc", "loss"):
        found = [key for key in sorted(metrics) if word in key and not key.startswith("train")]
        if found:
            return found[:1]
    return []


class Terminal:
    """Says what was measured where the Trainer shows a progress bar, on one process only.

    A line after every validation, above the bar; where the bar is Rich's, a table of the layers
    beneath it, which changes in place; the whole table at the end. With
    ``Trainer(enable_progress_bar=False)`` nothing is said.
    """

    def __init__(self) -> None:
        self._under: Any = None  # the Rich progress that the table is under

    def after_validation(
        self, trainer: AnyTrainer, history: History, metrics: Mapping[str, float], name: str
    ) -> None:
        """Say what a validation gave.

        Args:
            trainer: Whose bar it is.
            history: All that was measured.
            metrics: What was logged, by key.
            name: What the line begins with.
        """
        bar = _bar(trainer)
        if bar is not None:
            bar.print(validation_line(metrics, name, history))
            self._put_table_under(bar, history)

    def at_end(self, trainer: AnyTrainer, history: History) -> None:
        """Say the whole table, in place of the one under the bar.

        Args:
            trainer: Whose bar it is.
            history: All that was measured.
        """
        self.release()
        bar = _bar(trainer)
        if bar is not None and history.records:
            bar.print(f"\n{end_table(history)}\n")
            if "twonn" in estimators(history):
                bar.print("Above about 20 TwoNN is a lower bound.")

    def release(self) -> None:
        """Take the table from under the bar. May be called at any time."""
        if self._under is not None:
            vars(self._under).pop("get_renderables", None)
            self._under = None

    def _put_table_under(self, bar: Any, history: History) -> None:
        progress: Any = getattr(bar, "progress", None)
        if not hasattr(progress, "get_renderables") or not history.records:
            return
        # Imported by whoever made the bar.
        from rich.table import Table  # noqa: PLC0415

        self.release()
        # Made here, once: what fails where the bar is redrawn would end the training.
        table = Table(box=None, pad_edge=False, header_style="dim")
        rows = end_rows(history)
        for i, title in enumerate(rows[0]):
            table.add_column(title, justify="right" if i else "left", no_wrap=True)
        for row in rows[1:]:
            table.add_row(*row)
        plain = progress.get_renderables

        def with_table() -> Iterator[Any]:
            yield from plain()
            yield table

        progress.get_renderables = with_table
        self._under = progress


def _bar(trainer: AnyTrainer) -> Any:
    """Return the progress bar that shows on this process, or None."""
    bar = trainer.progress_bar_callback
    return bar if trainer.is_global_zero and bar is not None and bar.is_enabled else None
