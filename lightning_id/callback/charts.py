"""The pictures of a run in its loggers while it goes on, within a share of its time."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from lightning_id._checks import how_to_install
from lightning_id.callback.loggers import PAGE, log_figure, tensorboard_layout
from lightning_id.history import History
from lightning_id.history.queries import main_estimator

SHARE = 0.01  # of the time since the fit began that drawing may take; the last pictures always come


class Charts:
    """Draws the depth profile and the heat map into every logger. On one process only.

    Pictures hold all that came before, so that leaving some out loses nothing: they are drawn as
    often as one percent of the time allows, and once more at the end.

    Args:
        prefix: What every logged key begins with.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self._spent = 0.0
        self._costs = 0.0  # seconds of the last drawing
        self._drawn = 0  # records in the last pictures
        self._failed: set[str] = set()  # what was said to fail: loggers, matplotlib
        self._laid_out: set[int] = set()

    def draw(
        self,
        history: History,
        loggers: Sequence[Any],
        step: int,
        folder: str | Path | None,
        elapsed: float,
        is_last: bool = False,
    ) -> None:
        """Draw, if there is something new and time for it.

        Args:
            history: All that was measured.
            loggers: Those of the Trainer.
            step: The logger's step.
            folder: The folder of the run.
            elapsed: Seconds since the fit began.
            is_last: Whether nothing more will come: then it is drawn whatever it costs.
        """
        if not loggers or len(history.records) == self._drawn:
            return
        if not is_last and self._spent + self._costs > SHARE * elapsed:
            return
        self._drawn = len(history.records)
        try:
            # Not at the top: those who want no pictures need no matplotlib.
            from lightning_id.figures import depth_profile, heat_map  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if not self._failed:
                self._failed.add("matplotlib")
                rank_zero_info(
                    f"No figures are drawn without {error.name}: {how_to_install('report')}"
                )
            return
        start = time.monotonic()
        estimator = main_estimator(history)
        for i, name in enumerate(history.sample_sets() or [""]):
            of_set, prefix = history.of_set(name), f"{self.prefix}{name}_" if i else self.prefix
            for draw in (depth_profile, heat_map):
                key, figure = f"{prefix}id/{draw.__name__}", draw(of_set, estimator)
                for logger, failure in log_figure(loggers, key, figure, step, folder):
                    self._warn_once(type(logger).__name__, failure)
        self._costs = time.monotonic() - start
        self._spent += self._costs

    def lay_out(
        self,
        loggers: Sequence[Any],
        layers: Mapping[str, Sequence[str]],
        estimators: Sequence[str],
        metrics: Sequence[str],
    ) -> None:
        """Lay out TensorBoard's page of custom scalars, once a run.

        Args:
            loggers: Those of the Trainer.
            layers: Names as they are in the keys, by the prefix of the keys of a sample set.
            estimators: Names of the estimators.
            metrics: What the user logged, to be read beside it.
        """
        for logger in loggers:
            is_board = any(base.__name__ == "TensorBoardLogger" for base in type(logger).__mro__)
            if is_board and id(logger) not in self._laid_out:
                self._laid_out.add(id(logger))
                charts: dict[str, list[Any]] = {}
                for of_set, names in layers.items():
                    page = tensorboard_layout(names, estimators, (), f"{self.prefix}{of_set}")[PAGE]
                    in_set = f" ({of_set.removesuffix('_')})" if of_set else ""
                    charts |= {f"{title}{in_set}": chart for title, chart in page.items()}
                charts |= tensorboard_layout((), (), metrics)[PAGE]
                logger.experiment.add_custom_scalars({PAGE: charts})

    def _warn_once(self, logger: str, failure: Exception) -> None:
        if logger not in self._failed:
            self._failed.add(logger)
            rank_zero_warn(f"{logger} took no picture; the others have theirs: {failure!r}")
