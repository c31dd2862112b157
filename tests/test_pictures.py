"""What is shown of a history: the figure, the line of a validation, the table at the end."""

import io

import pytest

from lightning_id import History
from lightning_id.console import end_table, validation_line
from lightning_id.figures import depth_profile

LAYERS = ["input", "conv1", "last_hidden", "output"]


def history_of(profiles):
    history = History()
    for i, profile in enumerate(profiles):
        stage = "before_training" if i == 0 else "fit"
        for order, (layer, value) in enumerate(zip(LAYERS, profile, strict=False)):
            place = {"stage": stage, "epoch": max(i - 1, 0), "step": i, "layer": layer}
            place |= {"order": order, "depth": order / 3, "ambient_dimension": 10 * order + 5}
            history.append(
                **place, estimator="twonn", value=value, std_error=0.5, low=value - 1,
                high=value + 1,
            )  # fmt: skip
            history.append(**place, estimator="pca", value=40.0 + order)
    return history


def test_the_profile_has_a_line_per_validation_and_the_untrained_one_is_dashed():
    figure = depth_profile(history_of([[12, 12, 12, 9], [12, 14, 9, 6], [12, 25, 8, 5]]))
    lines = figure.axes[0].get_lines()
    assert [line.get_linestyle() for line in lines] == ["--", "-", "-"]
    assert list(lines[-1].get_ydata()) == [12, 25, 8, 5]
    assert any("lower bound" in text.get_text() for text in figure.axes[0].texts)
    assert figure.axes[0].get_legend() is not None


@pytest.mark.parametrize("profiles", [[], [[12]], [[float("nan")] * 4], [[5, 4, 3, 2]]])
def test_a_history_with_little_in_it_is_still_drawn(profiles):
    depth_profile(history_of(profiles)).savefig(io.BytesIO())


def test_drawing_leaves_pyplot_unloaded_and_without_figures():
    import subprocess
    import sys

    code = (
        "import sys; from lightning_id import History; from lightning_id.figures import *;"
        "depth_profile(History()).savefig('/dev/null', format='png');"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_table_shows_the_last_validation_beside_the_first_state():
    table = end_table(history_of([[12, 13, 14, 9], [12, 14, 8.125, 6]])).splitlines()
    assert table[0].split() == [
        "layer", "depth", "width", "TwoNN", "PCA", "90", "%", "TwoNN", "before", "PCA", "before",
    ]  # fmt: skip
    assert table[4].split() == [
        "last_hidden", "0.67", "25", "8.12", "±", "0.50", "42", "14.00", "±", "0.50", "42",
    ]  # fmt: skip
    assert end_table(History()) == "Nothing was measured."


def test_the_line_of_a_validation_says_accuracy_last_hidden_and_peak():
    history = history_of([[12, 13, 14, 9], [12, 14, 8, 6]])
    line = validation_line({"val_acc": 0.98, "id/last_hidden": 8.0}, "epoch 1", history)
    assert line == "epoch 1  val_acc 0.98  id/last_hidden 8  id/peak 14 at conv1 (depth 0.33)"
