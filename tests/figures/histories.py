"""Histories for the tests of the figures, and what a drawn figure holds."""

import io
import math
import random

import numpy as np
import torch
from matplotlib.text import Text

from lightning_id import History
from lightning_id.figures import (
    compare,
    depth_profile,
    heat_map,
    last_hidden_and_metric,
    last_hidden_over_time,
    layers_over_time,
    linear_and_nonlinear,
    per_class,
    scale_profiles,
    spectra,
)
from lightning_id.functional import scale_profile

NAN = math.nan


FIGURES = {
    "depth_profile": depth_profile,
    "depth_profile pca": lambda history: depth_profile(history, "pca"),
    "heat_map": heat_map,
    "linear_and_nonlinear": linear_and_nonlinear,
    "layers_over_time": layers_over_time,
    "last_hidden_and_metric": last_hidden_and_metric,
    "last_hidden_over_time": last_hidden_over_time,
    "spectra": spectra,
    "per_class": per_class,
    "compare": lambda history: compare({"this": history, "the same": history}),
    "scale_profiles": lambda history: scale_profiles(profiles_of(history)),
}


def names_of(n_layers):
    return ["input", *(f"model.encoder.blocks.{i}.mlp" for i in range(1, n_layers))][:n_layers]


def history_of(
    n_validations=4,
    n_layers=6,
    names=None,
    value=None,
    depth=True,
    metric="val_acc",
    n_classes=3,
    steps=None,
):
    """A hunchback that grows; the first measurement is before training."""
    history, noise = History(), random.Random(0)
    names = names or names_of(n_layers)
    for i in range(n_validations):
        stage = "before_training" if i == 0 else "fit"
        epoch, step = (0, steps[i]) if steps else (max(i - 1, 0), 100 * i)
        place = {"stage": stage, "epoch": epoch, "step": step, "data": "val", "n_samples": 2000}
        for order, name in enumerate(names):
            at = order / max(len(names) - 1, 1)
            role = "last_hidden" if order == max(len(names) - 2, 0) else None
            layer = {"layer": name, "order": order, "role": role, "depth": at if depth else None}
            layer["ambient_dimension"] = max(4096 >> order, 10)
            hunch = 8 + (20 - 15 * math.exp(-i / 20)) * math.exp(-(((at - 0.3) / 0.2) ** 2))
            twonn = hunch + noise.gauss(0, 0.2) if value is None else value
            error = {"std_error": 0.4, "low": twonn - 0.8, "high": twonn + 0.8}
            reason = "too few distinct rows" if math.isnan(twonn) else None
            history.append(**place, **layer, estimator="twonn", value=twonn, reason=reason, **error)
            pca = NAN if reason else float(int(twonn**1.5))
            error_of_pca = dict.fromkeys(error, NAN)
            history.append(
                **place, **layer, estimator="pca", value=pca, reason=reason, **error_of_pca
            )
            for k in range(n_classes if i == n_validations - 1 else 0):
                history.append(
                    **(place | {"n_samples": 200}),
                    **layer,
                    estimator="twonn",
                    label=f"class {k}",
                    value=twonn * noise.uniform(0.5, 0.9),
                    reason=reason,
                    **error,
                )
        history.append_metrics((stage, epoch, step), {metric: 0.95 - 0.85 * math.exp(-i / 3)})
    found = history.validations()
    for validation in dict.fromkeys([*found[:1], *found[-1:]]):
        power = 1.5 if validation[0] == "fit" else 1
        history.keep_spectra(
            validation,
            {
                name: torch.arange(1, 501).float() ** -(power + i / 9)
                for i, name in enumerate(names)
            },
        )
    return history


def never_called(history):
    """A history to which a layer was added that never ran."""
    for validation in history.validations():
        place = dict(zip(("stage", "epoch", "step"), validation, strict=True))
        for estimator in ("twonn", "pca"):
            history.append(
                **place,
                layer="unused",
                order=99,
                estimator=estimator,
                value=NAN,
                reason="never called",
            )
    return history


def profiles_of(history):
    """A scale profile for each layer of a history: the same one, or one without an estimate."""
    layers = dict.fromkeys(r["layer"] for r in history.records)
    broken = all(r["value"] is None or math.isnan(r["value"]) for r in history.records)
    cloud = torch.rand(300, 5, generator=torch.Generator().manual_seed(0))
    profile = scale_profile(cloud[:2] if broken else cloud, max_order=8, blocks=(1, 2))
    return dict.fromkeys(layers, profile)


UNICODE = ["größe", "слой.1", "层", r"a$\b{$c", "conv[1] & <x>", "é" * 40]


LONG = "encoder." + "stage_with_a_long_name." * 9


BROKEN = {
    "whole": history_of,
    "empty": History,
    "one validation": lambda: history_of(n_validations=1),
    "one layer": lambda: history_of(n_layers=1),
    "one layer, one validation": lambda: history_of(1, 1),
    "all NaN": lambda: history_of(value=NAN),
    "one value": lambda: history_of(value=7.0),
    "zero": lambda: history_of(value=0.0),
    "huge": lambda: history_of(value=3e5),
    "unicode": lambda: history_of(names=UNICODE),
    "200 characters": lambda: history_of(names=[f"{LONG}{i}"[:199] + f"{i}" for i in range(9)]),
    "60 layers": lambda: history_of(n_layers=60),
    "depth None": lambda: history_of(depth=False),
    "never called": lambda: never_called(history_of()),
    "no metric": lambda: history_of(metric="validation/accuracy_of_the_$student"),
    "several in an epoch": lambda: history_of(9, steps=range(9)),
    "steps spaced by powers": lambda: history_of(12, steps=[0, *(2**i for i in range(11))]),
    "only a test": lambda: with_field(history_of(1), stage="test"),
}


BROKEN_FOR_ONE = {  # what other figures do not look at
    "one depth": ("depth_profile", lambda: with_field(history_of(n_layers=60), depth=0.5)),
    "never called alone": ("heat_map", lambda: never_called(with_field(history_of(), value=None))),
    "metric NaN": ("heat_map", lambda: with_metric(history_of(), NAN)),
    "many classes": ("per_class", lambda: history_of(n_classes=100)),
    "no spectra": ("spectra", lambda: without_spectra(history_of())),
    "constant layers": ("spectra", lambda: with_spectra(history_of(), torch.zeros(5))),
    "NaN spectra": ("spectra", lambda: with_spectra(history_of(), torch.full((5,), NAN))),
    "no role": ("last_hidden_and_metric", lambda: with_field(history_of(), role=None)),
    "no band": ("last_hidden_and_metric", lambda: with_field(history_of(), low=None, high=NAN)),
    "no widths": ("depth_profile", lambda: with_field(history_of(), ambient_dimension=None)),
}


def with_field(history, **fields):
    for record in history.records:
        record.update(fields)
    return history


def with_metric(history, value):
    for entry in history.metrics:
        entry["value"] = value
    return history


def without_spectra(history):
    history.spectra_by_set.clear()
    return history


def with_spectra(history, eigenvalues):
    for layers in history.spectra.values():
        for layer in layers:
            layers[layer] = eigenvalues
    return history


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def texts(figure):
    return " | ".join(t.get_text() for t in figure.findobj(Text) if t.get_visible())


def drawn_numbers(figure):
    """Heights of all points of all lines, and the values of all maps."""
    numbers = []
    for axes in figure.axes:
        for line in axes.get_lines():
            if len(line.get_xdata()) and line.get_transform() == axes.transData:
                numbers += [float(y) for y in line.get_ydata()]
        for image in axes.get_images():
            numbers += [float(v) for v in np.ma.compressed(image.get_array())]
    return [number for number in numbers if math.isfinite(number)]


def lines_of(axes):
    return [line for line in axes.get_lines() if line.get_transform() == axes.transData]
