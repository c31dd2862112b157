"""Figures for every logger, names of layers in keys, and the page of TensorBoard's custom scalars.

Loggers are distinguished by the names of their classes: Lightning has two trees of them, and no
tracker is imported before its logger exists.
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
    """Store a figure in every logger; if a logger takes no images, in the folder of the run.

    The figure is rendered once, at its own resolution. TensorBoard, W&B, MLflow and Comet keep it
    at its step. The file ``<folder>/<key>.png`` is replaced every time. Call it on one rank only.

    Args:
        loggers: Loggers of the Trainer, of either class tree; without any, the file is written.
        key: Name of the figure, for example ``"id/depth_profile"``.
        figure: The figure, which is not changed.
        step: The logger's step.
        folder: The folder of the run; None to write no file.

    Returns:
        The loggers that failed, each with its exception; the others have the figure.
    """
    from PIL import Image  # noqa: PLC0415 - comes with matplotlib

    png = io.BytesIO()
    figure.savefig(png, format="png", dpi="figure")
    image = Image.open(png).convert("RGB")

    def store(logger: Any) -> None:
        write = _image_writer(logger)
        if write is not None:
            write(logger, key, image, step)
        elif folder is not None:
            path = Path(folder) / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png.getvalue())

    return failures_of(store, list(loggers) or [None])


def tensorboard_layout(
    layers: Sequence[str],
    estimators: Sequence[str] = ("twonn", "pca"),
    metrics: Sequence[str] = ("val_acc",),
    prefix: str = "",
) -> dict[str, dict[str, list[Any]]]:
    r"""Return the page of TensorBoard's Custom Scalars, for `SummaryWriter.add_custom_scalars`.

    An accuracy, or the first metric; the last hidden layer and the ends of its 95 % interval; a
    chart for each estimator with a line for each layer, and for each further metric. No chart is of
    the kind ``"Margin"``: TensorBoard puts them after all others. It takes the first layout of a
    run: call it once.

    Args:
        layers: Names of layers in the logged keys: see `key_names`.
        estimators: Names of the logged estimators.
        metrics: Keys of metrics.
        prefix: The beginning of every logged key of the callback.

    Returns:
        Title of the page to title of the chart to kind and tags, regular expressions that match
        one key each.

    Example:
        >>> tensorboard_layout(["net.0"], ["twonn"])["Intrinsic dimension"]["TwoNN"]
        ['Multiline', ['^id_twonn/net\\.0$']]
    """
    metrics = sorted(metrics, key=lambda name: "acc" not in name.lower())
    keys = {metric: [metric] for metric in metrics[:1]}
    if "twonn" in estimators:
        value = f"{prefix}id/last_hidden"
        keys["Last hidden layer"] = [value, f"{value}_low", f"{value}_high"]
    for estimator in estimators:
        title = estimator_spec(estimator).title
        keys[title] = [f"{prefix}id_{estimator}/{layer}" for layer in layers]
    keys |= {metric: [metric] for metric in metrics[1:]}
    tags = {title: [f"^{re.escape(key)}$" for key in each] for title, each in keys.items()}
    return {PAGE: {title: ["Multiline", each] for title, each in tags.items()}}


def key_names(layers: Sequence[str]) -> dict[str, str]:
    r"""Return a name for each layer that every logger accepts as a part of a key.

    Characters other than ASCII letters and digits, ``_``, ``.`` and ``-`` become ``_`` (slashes
    too), long names lose their middle, and names that become equal are numbered. Without this,
    MLflow raises for ``//``, a leading slash, ``..`` and more than 250 characters, and for a key
    that is a folder of another; Lightning strips characters that MLflow refuses, so that two layers
    may share a key; tensorboardX replaces unknown characters. Most module names stay unchanged.

    Args:
        layers: Names or aliases, each once.

    Returns:
        Names in keys, by layer.

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


def failures_of(
    store: Callable[[Any], None], loggers: Iterable[Any]
) -> list[tuple[Any, Exception]]:
    """Store something in every logger; return the failed ones, each with its exception."""
    failures = []
    for logger in loggers:
        try:
            store(logger)
        except Exception as error:  # a tracker that is down must not stop the others
            failures.append((logger, error))
    return failures


def is_tensorboard(logger: Any) -> bool:
    """Return whether a logger is a TensorBoard logger of either class tree."""
    return "TensorBoardLogger" in class_names(logger)


def class_names(logger: Any) -> list[str]:
    """Return the names of the class of a logger and of its bases."""
    return [base.__name__ for base in type(logger).__mro__]


ImageWriter = Callable[[Any, str, Any, int], None]  # logger, key, PIL image, step


def _image_writer(logger: Any) -> ImageWriter | None:
    """Return the function that stores an image in a logger, by its class or methods, or None."""
    for name in class_names(logger):
        if name in _BY_CLASS:
            return _BY_CLASS[name]
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
    # Several releases could not read keys with a slash back.
    logger.experiment.log_image(logger.run_id, image, key=key.replace("/", "."), step=step)


_BY_CLASS: dict[str, ImageWriter | None] = {
    "TensorBoardLogger": _into_tensorboard,
    "WandbLogger": _into_wandb,
    "MLFlowLogger": _into_mlflow,
    "CometLogger": lambda logger, key, image, step: logger.experiment.log_image(
        image, name=key, step=step
    ),
    "CSVLogger": None,
}
