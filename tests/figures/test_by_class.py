"""The figure of classes by themselves."""

import numpy as np
import pytest

from lightning_id.figures import (
    per_class,
)
from tests.figures.histories import history_of, texts


def test_the_points_of_a_class_are_its_values_and_the_bar_is_mean_and_deviation():
    history = history_of(2, 2, n_classes=3)
    axes = per_class(history).axes[0]
    values = {
        (r["label"], r["layer"]): r["value"] for r in history.records if r["label"] is not None
    }
    layers = ["input", "model.encoder.blocks.1.mlp"]
    points = [line for line in axes.get_lines() if line.get_marker() == "o"]
    for k, line in enumerate(points):
        assert list(line.get_ydata()) == [values[f"class {k}", layer] for layer in layers]
    for i, bar in enumerate(axes.containers):
        column = [values[f"class {k}", layers[i]] for k in range(3)]
        ends = bar.lines[2][0].get_segments()[0][:, 1]
        assert bar.lines[0].get_ydata()[0] == pytest.approx(np.mean(column))
        assert (ends[1] - ends[0]) / 2 == pytest.approx(np.std(column, ddof=1))
    assert "200 samples of val for each class" in texts(axes.figure)
