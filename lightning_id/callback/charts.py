"""Figures in the loggers while a run goes on, within a share of its time."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_id._checks import how_to_install
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.layer_chart import layer_curves, log_layer_chart
from lightning_id.callback.loggers import PAGE, is_tensorboard, log_figure, tensorboard_layout
from lightning_id.history import History
from lightning_id.history.queries import main_estimator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 4.2  # inches, at which TensorBoard's 340 pixels show small letters 9 pixels high
FIRST_COST = 0.6  # seconds, with the import of matplotlib
SHARE = 0.01  # of the time since the fit began; the final figures are drawn whatever they cost


class Charts:
    """Draws figures of the history into every logger, on rank 0 only."""

    def __init__(self, prefix: str, failures: FailurePolicy) -> None:
        self.prefix = prefix
        self._failures = failures
        self._spent = 0.0
        self._costs = FIRST_COST  # seconds of the last drawing
        self._drawn = 0  # records in the last figures
        self._laid_out: set[int] = set()  # loggers

    def draw(
        self,
        history: History,
        loggers: Sequence[Any],
        step: int,
        folder: str | Path | None,
        elapsed: float,
        is_last: bool = False,
    ) -> None:
        """Draw, if there are new records and time is left; the last figures are always drawn."""
        if not loggers or len(history.records) == self._drawn:
            return
        if not is_last and self._spent + self._costs > SHARE * elapsed:
            return
        self._drawn = len(history.records)
        start = time.monotonic()
        try:
            failures = [
                failure
                for key, figure in self._figures(history)
                for failure in log_figure(loggers, key, figure, step, folder)
            ]
            failures += self._log_layer_charts(history, loggers, step)
            for logger, failure in failures:
                name = type(logger).__name__
                self._failures.report_once(
                    f"{name} could not store the figure; other loggers were not affected:"
                    f" {failure!r}",
                    key=f"figures of {name}",
                )
        except ModuleNotFoundError as error:
            self._failures.report_once(
                f"No figures are drawn without {error.name}: {how_to_install('report')}",
                emit=rank_zero_info,
            )
            return
        self._costs = time.monotonic() - start
        self._spent += self._costs

    def lay_out(
        self,
        loggers: Sequence[Any],
        layers: Mapping[str, Sequence[str]],
        estimators: Sequence[str],
        metrics: Sequence[str],
    ) -> None:
        """Lay out TensorBoard's custom scalars, once a run; ``layers`` are by key prefix."""
        for logger in loggers:
            if is_tensorboard(logger) and id(logger) not in self._laid_out:
                self._laid_out.add(id(logger))
                charts: dict[str, list[Any]] = {}
                for of_set, names in layers.items():
                    shown = () if charts else metrics
                    prefix = f"{self.prefix}{of_set}"
                    page = tensorboard_layout(names, estimators, shown, prefix)[PAGE]
                    in_set = f" ({of_set.removesuffix('_')})" if of_set else ""
                    charts |= {f"{title}{in_set}": chart for title, chart in page.items()}
                logger.experiment.add_custom_scalars({PAGE: charts})

    def _log_layer_charts(
        self, history: History, loggers: Sequence[Any], step: int
    ) -> list[tuple[Any, Exception]]:
        """Log the chart of all layers of every sample set; return the failures."""
        estimator = main_estimator(history)
        return [
            failure
            for i, name in enumerate(history.sample_sets() or [""])
            for failure in log_layer_chart(
                loggers,
                f"{self.prefix}{f'{name}_' if i else ''}id/layers_{estimator}",
                layer_curves(history.of_set(name), estimator),
                estimator,
                step,
            )
        ]

    def _figures(self, history: History) -> Iterator[tuple[str, "Figure"]]:
        """Yield key and figure, of every sample set, then of all together."""
        # Not at the top: without figures no matplotlib is needed.
        from lightning_id.figures import (  # noqa: PLC0415
            depth_profile,
            heat_map,
            last_hidden_over_time,
            layers_over_time,
        )

        estimator, sets = main_estimator(history), history.sample_sets() or [""]
        for i, name in enumerate(sets):
            of_set, prefix = history.of_set(name), f"{self.prefix}{name}_" if i else self.prefix
            for draw in (depth_profile, layers_over_time, heat_map):
                yield f"{prefix}id/{draw.__name__}", draw(of_set, estimator, width=WIDTH)
        if len(sets) > 1 and estimator == "twonn":
            key = f"{self.prefix}id/last_hidden_over_time"
            yield key, last_hidden_over_time(history, width=WIDTH)
