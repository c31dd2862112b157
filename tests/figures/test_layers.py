"""The figure of all layers over training."""

import pytest

from lightning_id.figures import layers_over_time
from tests.figures.histories import history_of


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
