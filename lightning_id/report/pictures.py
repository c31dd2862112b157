"""The figures of a report: which, and when there is something to draw."""

import io
from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from lightning_id.figures import (
    depth_profile,
    heat_map,
    last_hidden_and_metric,
    linear_and_nonlinear,
    per_class,
    spectra,
)
from lightning_id.history import History, estimators_of, main_estimator
from lightning_id.layers import LAST_HIDDEN
from lightning_id.report.runs import has_profile

METRIC = "val_acc"  # shown beside the dimension, if it was logged


class Picture(NamedTuple):
    """A kind of figure.

    Attributes:
        title: Its headline.
        caption: How to read it.
        draw: Makes it.
        applies: Whether a history has what it shows.
    """

    title: str
    caption: str
    draw: Callable[[History], Figure]
    applies: Callable[[History], bool]


def _metric(history: History) -> str:
    names = [metric["name"] for metric in history.metrics]
    return METRIC if METRIC in names else next(iter(names), METRIC)


PICTURES = [
    Picture(
        "Dimension over depth",
        "One line for each measurement; a hunchback is a rise and a fall from left to right.",
        lambda history: depth_profile(history, main_estimator(history)),
        has_profile,
    ),
    Picture(
        "Dimension over training",
        "One row for each layer, one column for each measurement.",
        lambda history: heat_map(history, main_estimator(history), _metric(history)),
        lambda history: has_profile(history) and len(history.validations()) > 1,
    ),
    Picture(
        "Linear and nonlinear dimension",
        "Where PCA is far above TwoNN, the representation is curved.",
        linear_and_nonlinear,
        lambda history: has_profile(history) and {"twonn", "pca"} <= set(estimators_of(history)),
    ),
    Picture(
        "Last hidden layer",
        "Its dimension over training, beside what was logged.",
        lambda history: last_hidden_and_metric(history, _metric(history)),
        lambda history: (
            has_profile(history)
            and len(history.validations()) > 1
            and any(record["role"] == LAST_HIDDEN for record in history.records)
        ),
    ),
    Picture(
        "Spectra",
        "Eigenvalues of the covariance of each layer, trained and untrained.",
        spectra,
        lambda history: bool(history.spectra),
    ),
    Picture(
        "Classes by themselves",
        "The dimension of the samples of one class each.",
        lambda history: per_class(history, main_estimator(history)),
        lambda history: any(record["label"] is not None for record in history.records),
    ),
]


def pictures_of(history: History) -> list[Picture]:
    """Return the figures for which a history has something to show.

    Args:
        history: What was measured.

    Returns:
        Those of `PICTURES`, in their order.
    """
    return [picture for picture in PICTURES if picture.applies(history)]


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
