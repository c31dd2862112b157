"""Figures over time."""

import math

import numpy as np
import pytest

from lightning_id.figures import (
    heat_map,
    last_hidden_and_metric,
    last_hidden_over_time,
    layers_over_time,
)
from tests.figures.histories import NAN, history_of, never_called, texts, with_field, with_metric


def test_validations_between_measurements_have_their_own_time():
    history = history_of(3, 4, steps=[0, 10, 20])
    first, *_ = history.validations()
    history.metrics.clear()
    history.append_metrics(first, {"val_acc": 0.1})
    for step, value in ((5, 0.5), (15, 0.6), (30, 0.7)):
        history.append_metrics(("fit", 0, step), {"val_acc": value})
    curve = heat_map(history).axes[0].get_lines()[0]
    assert list(curve.get_xdata()) == [0, 0.5, 1.5]  # 30 is beyond the last column
    assert list(curve.get_ydata()) == [0.1, 0.5, 0.6]
    _, metric, *_ = last_hidden_and_metric(history).axes
    lines = {tuple(line.get_xdata()) for axes in (metric.figure.axes) for line in axes.get_lines()}
    assert (0, 5, 15, 30) in lines


def test_the_cells_of_the_map_are_the_values_and_what_has_none_is_left_open():
    history = never_called(history_of(3, 4))
    curve, axes = heat_map(history).axes[:2]
    cells = axes.get_images()[0].get_array()
    expected = [[r["value"] for r in history.at(v, "twonn")] for v in history.validations()]
    assert cells.shape == (5, 3)
    assert np.array_equal(cells[:4].data.T, [row[:4] for row in expected])
    assert cells.mask[4].all()
    assert axes.get_yticklabels()[0].get_text() == "input"
    assert list(curve.get_lines()[0].get_ydata()) == [m["value"] for m in history.metrics]
    assert list(curve.get_lines()[0].get_xdata()) == [0, 1, 2]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "1", "2"]
    assert "grey: no estimate" in texts(axes.figure)


def test_a_training_without_a_value_is_left_out_of_the_map_of_a_test_with_values():
    history = with_field(history_of(), value=math.nan)
    for r in history_of().at(("fit", 1, 200), "twonn"):
        history.append(**(r | {"stage": "test", "epoch": 2, "step": 201}))
    shown = heat_map(history).axes[1].images[0].get_array()
    assert shown.shape[1] == 1
    assert not shown.mask.any()


@pytest.mark.parametrize("figure", [heat_map, last_hidden_and_metric])
def test_a_metric_that_was_not_logged_is_named_with_others_that_were(figure):
    said = texts(figure(history_of(metric="val_f1"))).replace("\n", " ")
    assert "No finite val_acc at these measurements" in said
    assert "logged: val_f1" in said
    assert "No finite val_acc" in texts(figure(with_metric(history_of(), NAN)))


def test_the_last_hidden_layer_is_drawn_over_time_and_against_the_metric():
    history = history_of(4, 5)
    figure = last_hidden_and_metric(history)
    expected = [
        r["value"]
        for r in history.records
        if r["role"] == "last_hidden" and r["estimator"] == "twonn" and r["label"] is None
    ]
    metric = [m["value"] for m in history.metrics]
    over_time, curve, both = figure.axes[0], figure.axes[2], figure.axes[1]
    assert list(over_time.get_lines()[0].get_xdata()) == [0, 1, 2, 3]
    assert list(over_time.get_lines()[0].get_ydata()) == expected
    assert list(curve.get_lines()[0].get_ydata()) == metric
    points = both.collections[0].get_offsets()
    assert np.allclose(points, list(zip(expected, metric, strict=True)))


def test_the_last_hidden_layer_of_every_set_is_a_line_with_its_band():
    history = history_of(4, 5)
    history.records += [
        r | {"data": "train", "value": r["value"] + 1, "low": r["low"] + 1, "high": r["high"] + 1}
        for r in history.records
        if r["label"] is None
    ]
    figure = last_hidden_over_time(history)
    (axes,) = figure.axes
    val, train = axes.get_lines()
    assert (val.get_label(), train.get_label()) == ("val", "train")
    assert list(val.get_xdata()) == list(train.get_xdata()) == [0, 1, 2, 3]
    assert np.allclose(train.get_ydata(), val.get_ydata() + 1)
    band = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(max(train.get_ydata()) + 0.8)
    assert "2000 samples of val, train" in texts(figure)


def test_every_layer_is_a_line_over_the_axis_of_the_metric():
    history = history_of(4, 5)
    axes, metric, names = layers_over_time(history).axes
    layers = history.at(history.validations()[0], "twonn")
    assert len(axes.get_lines()) == len(layers) == 5
    for line, first in zip(axes.get_lines(), layers, strict=True):
        assert list(line.get_xdata()) == [0, 1, 2, 3]
        expected = [
            r["value"]
            for validation in history.validations()
            for r in history.at(validation, "twonn")
            if r["layer"] == first["layer"]
        ]
        assert list(line.get_ydata()) == pytest.approx(expected)
    assert len({line.get_color() for line in axes.get_lines()}) == 5
    assert list(metric.get_lines()[0].get_ydata()) == [m["value"] for m in history.metrics]
    assert axes.get_xlim() == metric.get_xlim()
    assert len(names.get_yticklabels()) == 5
