"""Figures and curves in the loggers while a run goes on, figures within a share of its time."""

import math
import posixpath
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_id._checks import how_to_install
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.loggers import (
    PAGE,
    class_names,
    failures_of,
    is_tensorboard,
    key_names,
    log_figure,
    tensorboard_layout,
)
from lightning_id.callback.settings import SampleSet
from lightning_id.functional import estimator_spec
from lightning_id.history import History, has_value
from lightning_id.history.queries import by_validation, course, main_estimator
from lightning_id.recording.results import LayerResult

WIDTH = 4.2  # inches, at which TensorBoard's 340 pixels show small letters 9 pixels high
FIRST_COST = 0.6  # seconds, with the import of matplotlib
SHARE = 0.01  # of the time since the fit began; the final figures are drawn whatever they cost

Curve = Sequence[tuple[int, float]]  # training steps and dimensions


@dataclass
class Charts:
    """Draws figures of the history into every logger, on rank 0 only."""

    prefix: str
    failures: FailurePolicy
    _spent: float = 0.0  # seconds
    _costs: float = FIRST_COST  # seconds of the last drawing
    _drawn: int = 0  # records in the last figures
    _laid_out: set[int] = field(default_factory=set)  # loggers

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
            for logger, failure in self._failures_to_log(history, loggers, step, folder):
                name = type(logger).__name__
                self.failures.report_once(
                    f"{name} could not store the figure; other loggers were not affected:"
                    f" {failure!r}",
                    key=f"figures of {name}",
                )
        except ModuleNotFoundError as error:
            self.failures.report_once(
                f"No figures are drawn without {error.name}: {how_to_install('report')}",
                emit=rank_zero_info,
            )
            return
        self._costs = time.monotonic() - start
        self._spent += self._costs

    def lay_out(
        self,
        loggers: Sequence[Any],
        results: Mapping[SampleSet, Sequence[LayerResult]],
        estimators: Sequence[str],
        metrics: Sequence[str],
    ) -> None:
        """Lay out TensorBoard's custom scalars, once a run."""
        for logger in loggers:
            if is_tensorboard(logger) and id(logger) not in self._laid_out:
                self._laid_out.add(id(logger))
                charts: dict[str, list[Any]] = {}
                for each, of_set in results.items():
                    names = list(key_names([result.layer for result in of_set]).values())
                    shown = () if charts else metrics
                    prefix = f"{self.prefix}{each.key_prefix}"
                    page = tensorboard_layout(names, estimators, shown, prefix)[PAGE]
                    in_set = f" ({each.name})" if each.key_prefix else ""
                    charts |= {f"{title}{in_set}": chart for title, chart in page.items()}
                logger.experiment.add_custom_scalars({PAGE: charts})

    def _failures_to_log(
        self, history: History, loggers: Sequence[Any], step: int, folder: str | Path | None
    ) -> Iterator[tuple[Any, Exception]]:
        """Log figures and a chart of every sample set, then a figure of all; yield the failures."""
        # Not at the top: without figures no matplotlib is needed.
        from lightning_id.figures import KINDS  # noqa: PLC0415

        estimator, sets = main_estimator(history), history.sample_sets() or [""]
        for i, name in enumerate(sets):
            of_set, prefix = history.of_set(name), f"{self.prefix}{name}_" if i else self.prefix
            for kind in ("depth_profile", "layers_over_time", "heat_map"):
                figure = KINDS[kind](of_set, estimator, width=WIDTH)
                yield from log_figure(loggers, f"{prefix}id/{kind}", figure, step, folder)
            key, curves = f"{prefix}id/layers_{estimator}", layer_curves(of_set, estimator)
            yield from log_layer_chart(loggers, key, curves, estimator, step)
        if len(sets) > 1 and estimator == "twonn":
            figure = KINDS["last_hidden_over_time"](history, width=WIDTH)
            key = f"{self.prefix}id/last_hidden_over_time"
            yield from log_figure(loggers, key, figure, step, folder)


def layer_curves(history: History, estimator: str) -> dict[str, Curve]:
    """Return the dimension of every layer by training step, in the order of execution."""
    measured = by_validation(history, estimator)
    curves: dict[str, list[tuple[int, float]]] = {}
    for validation in course(measured):
        for record in filter(has_value, measured[validation]):
            curves.setdefault(record["layer"], []).append((validation.step, record["value"]))
    return dict(curves)


def log_layer_chart(
    loggers: Iterable[Any], key: str, curves: Mapping[str, Curve], estimator: str, step: int
) -> list[tuple[Any, Exception]]:
    """Store a chart of all layers in every logger of W&B or MLflow; return the failed ones."""

    def store(logger: Any) -> None:
        classes = class_names(logger)
        if "WandbLogger" in classes:
            logger.log_metrics({key: _wandb_chart(curves, estimator)}, step=step)
        elif "MLFlowLogger" in classes:
            # The library in the file: a server without the internet shows it too.
            logger.experiment.log_figure(
                logger.run_id,
                _plotly_chart(curves, estimator),
                f"{key.replace('/', '.')}.html",
                save_kwargs={"include_plotlyjs": True},
            )

    return failures_of(store, loggers if curves else ())


def _wandb_chart(curves: Mapping[str, Curve], estimator: str) -> Any:
    import wandb  # noqa: PLC0415 - its logger has imported it

    return wandb.plot.line_series(
        xs=[[at for at, _ in curve] for curve in curves.values()],
        ys=[[value for _, value in curve] for curve in curves.values()],
        keys=list(curves),
        title=f"{estimator_spec(estimator).title} of all layers",
        xname="training step",
    )


def _plotly_chart(curves: Mapping[str, Curve], estimator: str) -> Any:
    # Not at the top: needed for this chart only.
    import plotly.graph_objects as go  # type: ignore[import-untyped]  # noqa: PLC0415
    from matplotlib.colors import to_hex  # noqa: PLC0415

    from lightning_id.figures._drawing import layer_colors  # noqa: PLC0415

    figure = go.Figure()
    for (layer, curve), color in zip(curves.items(), layer_colors(len(curves)), strict=True):
        figure.add_scatter(
            x=[at for at, _ in curve],
            y=[value for _, value in curve],
            name=layer,
            line={"color": to_hex(color)},
        )
    figure.update_layout(
        template="plotly_white",
        xaxis_title="training step",
        yaxis_title=estimator_spec(estimator).axis_label,
    )
    return figure


@dataclass
class LayerCurves:
    """Writes ``id/<estimator>`` into a run ``layers/<order>-<layer>`` of each layer, on rank 0."""

    prefix: str
    _writers: dict[str, Any] = field(default_factory=dict)  # by folder

    def write(
        self,
        loggers: Sequence[Any],
        results: Mapping[SampleSet, Sequence[LayerResult]],
        step: int,
    ) -> None:
        """Add the values of a measurement to the curves of every TensorBoard logger."""
        for logger in filter(is_tensorboard, loggers):
            for each, of_set in results.items():
                runs = f"{self.prefix}{each.key_prefix}layers"
                names = key_names([result.layer for result in of_set])
                for result in of_set:
                    run = f"{result.order:02d}-{names[result.layer]}"
                    folder = posixpath.join(logger.log_dir, runs, run)
                    if folder not in self._writers:  # of torch or tensorboardX
                        self._writers[folder] = type(logger.experiment)(folder)
                    writer = self._writers[folder]
                    for estimator, estimate in result.estimates.items():
                        if math.isfinite(estimate.value):
                            writer.add_scalar(f"id/{estimator}", estimate.value, step)
                    writer.flush()

    def close(self) -> None:
        """Close all writers. Idempotent; safe to call at any point."""
        while self._writers:
            self._writers.popitem()[1].close()
