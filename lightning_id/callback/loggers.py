"""One way to put a figure into every logger, and the page of TensorBoard.

Loggers are told apart by the names of their classes, because Lightning has two trees of them, and
nothing of a tracker is imported before such a logger is there.
"""

import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_id.functional import estimator_spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

PAGE = "Intrinsic dimension"
LONGEST_NAME = 60  # of a layer: Comet cuts keys at 100, id_participation_ratio_per_class_sd/ has 36
HEAD = 20  # of them from the beginning of a longer name; layers differ at the end


def log_figure(
    loggers: Iterable[Any], key: str, figure: "Figure", step: int, folder: str | Path | None
) -> list[tuple[Any, Exception]]:
    """Put a figure into every logger; where a logger takes no pictures, into the folder of the run.

    The figure is rendered once, at its own resolution. TensorBoard, W&B and MLflow keep it beside
    the curves at its step, Comet too. The file, ``<folder>/<key>.png``, is replaced every time: a
    figure of a history holds all that came before. To be called on one process only.

    Args:
        loggers: Those of the Trainer, of either class tree; if there is none, the file is written.
        key: Its name, for example ``"id/depth_profile"``.
        figure: The figure, which is left as it is.
        step: The logger's step.
        folder: The folder of the run; None to write no file.

    Returns:
        The loggers that failed, each with what it raised; the others have the figure.
    """
    from PIL import Image  # noqa: PLC0415 - comes with matplotlib, without which nothing has a figure

    png = io.BytesIO()
    figure.savefig(png, format="png", dpi="figure")
    image = Image.open(png).convert("RGB")
    failures = []
    for logger in list(loggers) or [None]:
        try:
            put = _way_into(logger)
            if put is not None:
                put(logger, key, image, step)
            elif folder is not None:
                _write(Path(folder) / f"{key}.png", png.getvalue())
        except Exception as error:  # a tracker that is down must not stop the others
            failures.append((logger, error))
    return failures


def tensorboard_layout(
    layers: Sequence[str],
    estimators: Sequence[str] = ("twonn", "pca"),
    metrics: Sequence[str] = ("val_acc",),
    prefix: str = "",
) -> dict[str, dict[str, list[Any]]]:
    r"""Return the page of TensorBoard's Custom Scalars, for `SummaryWriter.add_custom_scalars`.

    A chart per estimator with a line for each layer; the last hidden layer in its 95 % band; and a
    chart for each metric, to be read beside it. TensorBoard takes the first layout of a run: call
    it once, and know that the user may have a page of their own.

    Args:
        layers: Names as they are in the logged keys: see `key_names`.
        estimators: Names of the estimators that are logged.
        metrics: Keys of the metrics.
        prefix: What every logged key of the callback begins with.

    Returns:
        Title of the page to title of the chart to kind and tags. Tags of ``"Multiline"`` are
        regular expressions that match their key alone; those of ``"Margin"`` are keys: value, lower
        and upper end.

    Example:
        >>> tensorboard_layout(["net.0"], ["twonn"])["Intrinsic dimension"]["TwoNN"]
        ['Multiline', ['^id_twonn/net\\.0$']]
    """
    charts: dict[str, list[Any]] = {
        estimator_spec(estimator).title: [
            "Multiline",
            [_only(f"{prefix}id_{estimator}/{layer}") for layer in layers],
        ]
        for estimator in estimators
    }
    if "twonn" in estimators:
        value = f"{prefix}id/last_hidden"
        charts["Last hidden layer"] = ["Margin", [value, f"{value}_low", f"{value}_high"]]
    for metric in metrics:
        charts[metric] = ["Multiline", [_only(metric)]]
    return {PAGE: charts}


def key_names(layers: Sequence[str]) -> dict[str, str]:
    r"""Return a name for each layer that every logger takes as a part of a key.

    The loggers do refuse or confuse others: MLflow raises for ``//``, for a leading slash, for a
    part that is ``..`` and for more than 250 characters, and its file store for a key that is a
    folder of another; Lightning strips what MLflow does not allow, so that two layers may become
    one; tensorboardX writes ``_`` for what it does not know. So everything but the letters and
    digits of ASCII, ``_``, ``.`` and ``-`` becomes ``_`` (slashes too), long names lose their
    middle, and names that become alike are numbered. The names of a model's modules mostly stay.

    Args:
        layers: Names or aliases, each once.

    Returns:
        Name in a key by layer, each once.

    Example:
        >>> key_names(["net.0", "block (1)", "block [1]"])
        {'net.0': 'net.0', 'block (1)': 'block__1_', 'block [1]': 'block__1_-2'}
    """
    names: dict[str, str] = {}
    for layer in layers:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", layer)
        if name in (".", ".."):  # folders, to MLflow
            name = name.replace(".", "_")
        if len(name) > LONGEST_NAME:
            name = f"{name[:HEAD]}...{name[-(LONGEST_NAME - HEAD - 3) :]}"
        taken, count = name, 1
        while taken in names.values():
            count += 1
            taken = f"{name}-{count}"
        names[layer] = taken
    return names


Put = Callable[[Any, str, Any, int], None]  # logger, key, PIL image, step


def _way_into(logger: Any) -> Put | None:
    """Return how a logger is given a picture: by its class, by what it can do, or None."""
    for base in type(logger).__mro__:
        if base.__name__ in _BY_CLASS:
            return _BY_CLASS[base.__name__]
    if callable(getattr(logger, "log_image", None)):  # the convention of Lightning's own
        return _into_wandb
    if callable(getattr(getattr(logger, "experiment", None), "add_image", None)):
        return _into_tensorboard
    return None


def _into_tensorboard(logger: Any, key: str, image: "Image", step: int) -> None:
    logger.experiment.add_image(key, np.asarray(image), step, dataformats="HWC")


def _into_wandb(logger: Any, key: str, image: "Image", step: int) -> None:
    logger.log_image(key=key, images=[image], step=step)


def _into_mlflow(logger: Any, key: str, image: "Image", step: int) -> None:
    # Not the slash: several releases wrote files for such keys that they could not read again.
    logger.experiment.log_image(logger.run_id, image, key=key.replace("/", "."), step=step)


def _into_comet(logger: Any, key: str, image: "Image", step: int) -> None:
    logger.experiment.log_image(image, name=key, step=step)


_BY_CLASS: dict[str, Put | None] = {
    "TensorBoardLogger": _into_tensorboard,
    "WandbLogger": _into_wandb,
    "MLFlowLogger": _into_mlflow,
    "CometLogger": _into_comet,
    "CSVLogger": None,
}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _only(key: str) -> str:
    return f"^{re.escape(key)}$"
