"""The failure policy of the callback: a failure is reported once, and the training goes on."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

from lightning_id._checks import kind_of, on_layers
from lightning_id.recording.processes import rank_here
from lightning_id.recording.results import LayerResult

OnError = Literal["warn", "raise", "ignore"]


def warn_on_first_rank(text: str) -> None:
    """Warn on the first rank of a process group, or without one."""
    if rank_here() == 0:
        warnings.warn(text, stacklevel=4)


class FailurePolicy:
    """Warns, raises or ignores, and repeats no message; the name of the owner begins each."""

    def __init__(
        self, on_error: str, owner: str, emit: Callable[[str], None] = warn_on_first_rank
    ) -> None:
        if on_error not in get_args(OnError):
            raise ValueError(f"`on_error`: expected 'warn', 'raise' or 'ignore', got {on_error!r}")
        self.on_error = on_error
        self._owner = owner
        self._emit = emit  # on one rank: Lightning knows it before there is a process group
        self._reported: set[tuple[str, str]] = set()  # layer, or "" for none, and cause

    def report_once(
        self,
        text: str,
        key: str | None = None,
        emit: Callable[[str], None] | None = None,
    ) -> None:
        """Emit a message, unless one of its key (or text) was emitted or failures are ignored."""
        if self.on_error != "ignore" and self._is_new("", key or text):
            (emit or self._emit)(f"{self._owner}: {text}")

    def report_layers(self, results: Sequence[LayerResult]) -> None:
        """Emit the remarks on layers: each cause once, for all its layers."""
        causes: dict[tuple[str, bool], list[tuple[str, str]]] = {}
        for result in results:
            for text in result.remarks():
                cause = kind_of(text, result.layer)
                if self._is_new(result.layer, cause):
                    texts = causes.setdefault((cause, bool(result.errors)), [])
                    texts.append((result.layer, text))
        for (_, failed), texts in causes.items():
            emit = warnings.warn if failed else None
            self.report_once(on_layers(texts, len(results)), emit=emit)

    @contextmanager
    def guard(self, action: str, clean_up: Callable[[], None]) -> Iterator[None]:
        """Context manager that cleans up after an exception, then raises, warns or ignores it."""
        try:
            yield
        except Exception as error:
            clean_up()
            if self.on_error == "raise":
                raise
            cause = f"could not {action}: {kind_of(repr(error))}"
            if self.on_error == "warn" and self._is_new("", cause):
                warnings.warn(  # on every rank: the others only know that one failed
                    f"{self._owner} could not {action}; the training goes on without this"
                    f" measurement: {error!r}",
                    stacklevel=3,
                )

    def _is_new(self, layer: str, cause: str) -> bool:
        is_new = (layer, cause) not in self._reported
        self._reported.add((layer, cause))
        return is_new
