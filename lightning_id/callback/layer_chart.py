"""One interactive chart of all layers over training, in W&B and MLflow, by their own functions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_id.functional import estimator_spec
from lightning_id.history import History, has_value
from lightning_id.history.queries import by_validation, course

Curve = Sequence[tuple[int, float]]  # training steps and dimensions


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
    """Store the chart in every logger of W&B or MLflow; return the failed ones, with the error."""
    failures = []
    for logger in loggers if curves else ():
        classes = {base.__name__ for base in type(logger).__mro__}
        try:
            if "WandbLogger" in classes:
                _into_wandb(logger, key, curves, estimator, step)
            elif "MLFlowLogger" in classes:
                _into_mlflow(logger, key, curves, estimator)
        except Exception as error:  # a tracker that is down must not stop the others
            failures.append((logger, error))
    return failures


def _into_wandb(
    logger: Any, key: str, curves: Mapping[str, Curve], estimator: str, step: int
) -> None:
    import wandb  # noqa: PLC0415 - its logger has imported it

    chart = wandb.plot.line_series(
        xs=[[at for at, _ in curve] for curve in curves.values()],
        ys=[[value for _, value in curve] for curve in curves.values()],
        keys=list(curves),
        title=f"{estimator_spec(estimator).title} of all layers",
        xname="training step",
    )
    logger.log_metrics({key: chart}, step=step)


def _into_mlflow(logger: Any, key: str, curves: Mapping[str, Curve], estimator: str) -> None:
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
    # The library in the file: a server without the internet shows it too.
    name = f"{key.replace('/', '.')}.html"
    logger.experiment.log_figure(
        logger.run_id, figure, name, save_kwargs={"include_plotlyjs": True}
    )
