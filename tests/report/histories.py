"""Histories for the tests of the report."""

import functools
import math

from lightning_id import History
from lightning_id.functional import Geometry, twonn_dimension
from lightning_id.report.page import html_page

BEFORE, LAST = ("before_training", 0, 0), ("fit", 1, 20)


NASTY = [
    "</script><script>bad()</script>",
    '<b>bold</b> & "quoted"',
    "couche|é.ö",
    "x" * 200,
    "*a*",
]


def measured(history, validation, values, error=0.5, estimator="twonn", layers=None, **fields):
    """Add a measurement: the values of the layers in order of execution."""
    stage, epoch, step = validation
    layers = layers or [f"layer{order}" for order in range(len(values))]
    for order, (layer, value) in enumerate(zip(layers, values, strict=True)):
        record = {
            "data": "val",
            "order": order,
            "depth": order / max(len(values) - 1, 1),
            "ambient_dimension": 100 * (order + 1),
            "std_error": error,
            "low": value - 2 * error,
            "high": value + 2 * error,
            "n_samples": 2000,
            "n_used": 1990,
            "n_duplicates": 10,
            "n_ties": 0,
            "goodness": 0.02,
            "dtype": "float32",
            "seconds": 0.25,
            "backend": "gram",
            "reduce": "flatten",
            "role": "last_hidden" if order == len(values) - 2 else None,
        }
        history.append(
            stage=stage,
            epoch=epoch,
            step=step,
            layer=layer,
            estimator=estimator,
            value=float(value),
            **record | fields,
        )
    return history


def after_training(values, **fields):
    return measured(History(), LAST, values, **fields)


def trained_and_untrained(start, end, **fields):
    return measured(measured(History(), BEFORE, start, **fields), LAST, end, **fields)


def whole_run(layers=None):
    """A run with everything that a report shows."""
    history = History()
    course = [(BEFORE, [12, 12, 12, 9]), (("fit", 0, 10), [12, 22, 10, 7]), (LAST, [12, 30, 9, 6])]
    for validation, values in course:
        measured(history, validation, values, layers=layers)
        components = [5.0 * value for value in values]
        measured(history, validation, components, math.nan, "pca", layers)
        history.metrics.append(
            dict(zip(("stage", "epoch", "step"), validation, strict=True))
            | {"name": "val_acc", "value": 0.9}
        )
    return history


def with_spectra(**clouds):
    """Return a history of the TwoNN dimensions and the spectra of clouds."""
    ids = [float(twonn_dimension(cloud)) for cloud in clouds.values()]
    history = after_training(ids, layers=list(clouds), n_samples=500, role=None)
    history.keep_spectra(LAST, {name: Geometry(x).spectrum() for name, x in clouds.items()})
    return history


LITTLE = {
    "empty": (History(), "the history has no records"),
    "one validation": (measured(History(), BEFORE, [5, 6, 4]), "no earlier value"),
    "one layer": (trained_and_untrained([5], [6]), "this profile has 1 with room"),
    "nothing estimated": (
        after_training([math.nan] * 3, reason="too few rows"),
        "TwoNN in layer0, layer1, layer2: too few rows.",
    ),
    "no depth": (after_training([math.nan] * 2, depth=None, reason="never called"), "never called"),
    "60 layers": (trained_and_untrained([12] * 60, [30] * 60), "and 54 more"),
    "pca alone": (after_training([5, 6, 4], error=math.nan, estimator="pca"), "PCA 90 % of 2000"),
    "only a test": (measured(History(), ("test", 3, 9), [5, 6, 4]), "test after epoch 3"),
}


@functools.cache
def page_of_little(name):
    return html_page({"run": LITTLE[name][0]})
