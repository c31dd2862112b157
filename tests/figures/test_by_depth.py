"""Figures over the depth of a network."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageSequence

from lightning_id import History
from lightning_id.figures import (
    by_depth,
    compare,
    depth_profile,
    layers_over_time,
    linear_and_nonlinear,
    moving_profile,
)
from tests.figures.histories import BROKEN, NAN, history_of, lines_of, texts


def test_the_profile_has_a_line_per_measurement_and_the_untrained_one_is_dashed():
    history = history_of(3)
    axes = depth_profile(history).axes[0]
    assert [line.get_linestyle() for line in lines_of(axes)] == ["--", "-", "-"]
    last = [r["value"] for r in history.at(("fit", 1, 200), "twonn")]
    assert list(lines_of(axes)[-1].get_ydata()) == last
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(max(last) + 0.8)
    assert "before training" in texts(axes.figure)
    assert "2000 samples of val" in texts(axes.figure)


def test_the_widths_of_the_layers_are_below_the_profile():
    widths = depth_profile(history_of(n_layers=3)).axes[1]
    assert list(widths.get_lines()[0].get_ydata()) == [4096, 2048, 1024]
    assert widths.get_yscale() == "log"
    assert [t.get_text() for t in widths.get_yticklabels()] == ["1024", "4096"]


def test_the_axis_is_logarithmic_where_the_range_is_above_eight():
    def scale(*values):
        history = history_of(1, len(values))
        for record, value in zip(
            history.at(history.validations()[0], "twonn"), values, strict=True
        ):
            record["value"] = value
        return depth_profile(history).axes[0].get_yscale()

    assert scale(2.0, 16.0) == "linear"
    assert scale(2.0, 17.0) == "log"
    assert scale(0.0, 2.0, 17.0) == "symlog"  # 0 components of a constant cloud are shown


def test_measurements_of_one_epoch_are_distinguished_by_step():
    figure = depth_profile(history_of(5, steps=[0, 10, 20, 30, 40]))
    colors = {line.get_color() for line in lines_of(figure.axes[0])}
    assert len(colors) == 5
    assert figure.axes[-1].get_ylabel() == "training step"
    assert depth_profile(history_of(5)).axes[-1].get_ylabel() == "epochs trained"


def test_steps_that_crowd_at_the_beginning_are_coloured_by_their_logarithm():
    figure = depth_profile(BROKEN["steps spaced by powers"]())
    assert figure.axes[-1].get_yscale() == "log"
    lightness = [sum(line.get_color()[:3]) for line in lines_of(figure.axes[0])[1:]]
    assert min(b - a for a, b in pairwise(lightness)) > 0.02


def test_a_test_after_the_training_is_dotted_and_the_band_stays_with_the_training():
    history = history_of(3)
    for r in history.at(("fit", 1, 200), "twonn"):
        history.append(
            **(r | {"stage": "test", "epoch": 2, "step": 201, "value": 1.0, "high": 99.0})
        )
    axes = depth_profile(history).axes[0]
    assert [line.get_linestyle() for line in lines_of(axes)] == ["--", "-", "-", ":"]
    assert axes.collections[0].get_paths()[0].vertices[:, 1].max() < 40
    assert "test" in texts(axes.figure)


def test_a_profiled_network_is_called_trained_next_to_its_untrained_twin_and_nothing_alone():
    def legend(stages):
        history = History()
        for stage in stages:
            for r in history_of().at(("fit", 1, 200), "twonn"):
                history.append(**(r | {"stage": stage, "epoch": 0, "step": 0}))
        shown = depth_profile(history).axes[0].get_legend()
        return None if shown is None else [text.get_text() for text in shown.get_texts()]

    assert legend(["before_training", "validate"]) == ["before training", "trained"]
    assert legend(["validate"]) is None
    assert legend(["before_training"]) == ["before training"]
    assert legend(["fit", "validate"]) == ["validate"]


def test_the_region_in_which_twonn_is_a_lower_bound_is_marked_only_where_it_is_reached():
    assert "above 20: usually too low" in texts(depth_profile(history_of(value=25.0)))
    assert "too low" not in texts(depth_profile(history_of(value=9.0)))
    assert "too low" not in texts(depth_profile(history_of(value=25.0), "pca"))


def test_of_many_measurements_an_even_choice_with_first_and_last_is_drawn_and_counted():
    history = history_of(200, 3)
    figure = depth_profile(history)
    lines = lines_of(figure.axes[0])
    assert len(lines) == 40
    assert list(lines[-1].get_ydata()) == [
        r["value"] for r in history.at(("fit", 198, 19900), "twonn")
    ]
    assert "40 of 200 lines drawn" in texts(figure).replace("\n", " ")


def test_the_ratio_is_pca_over_twonn_of_the_last_measurement():
    history = history_of(3, 4)
    axes, ratio = linear_and_nonlinear(history).axes[:2]
    last = ("fit", 1, 200)
    pca, twonn = ([r["value"] for r in history.at(last, e)] for e in ("pca", "twonn"))
    assert [list(line.get_ydata()) for line in lines_of(axes)] == [pca, twonn]
    assert list(lines_of(ratio)[0].get_ydata()) == [p / t for p, t in zip(pca, twonn, strict=True)]
    assert "epoch 2, step 200" in texts(axes.figure)


def test_the_gaussian_of_the_same_covariance_is_drawn_where_it_was_measured():
    history = history_of(2, 4)
    for record in history.at(("fit", 0, 100), "twonn"):
        history.records.append(record | {"estimator": "twonn_gaussian", "value": 99.0})
    axes = linear_and_nonlinear(history).axes[0]
    assert list(lines_of(axes)[1].get_ydata()) == [99.0] * 4
    assert "a Gaussian of the same covariance" in texts(axes.figure)


def test_runs_lie_over_each_other_and_the_ones_without_a_value_are_named():
    one, two = history_of(2, 3), history_of(3, 5)
    figure = compare({"a": one, "b": two, "broken": history_of(value=NAN), "new": History()})
    lines = lines_of(figure.axes[0])
    assert [list(line.get_ydata()) for line in lines] == [
        [r["value"] for r in one.at(("fit", 0, 100), "twonn")],
        [r["value"] for r in two.at(("fit", 1, 200), "twonn")],
    ]
    assert "without a value: broken, new" in texts(figure)
    assert "Nothing was measured" in texts(compare({}))


# --- the moving picture of the depth profile ------------------------------------------------------


HEIGHT_OF_TITLE = 30  # pixels


def frames_of(history, **options):
    gif = Image.open(io.BytesIO(moving_profile(history, **options)))
    return [np.asarray(frame.convert("RGB"), dtype=int) for frame in ImageSequence.Iterator(gif)]


@pytest.mark.parametrize("most", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_the_most_measurements_make_a_frame_each_below_2_mb_in_all(most, monkeypatch):
    monkeypatch.setattr(by_depth, "MOST_FRAMES", most)
    content = moving_profile(history_of(75, 12))
    assert Image.open(io.BytesIO(content)).n_frames == most + 1
    assert len(content) < 2e6 * (most + 1) / 61


def test_the_last_frame_is_the_layers_over_time():
    history = history_of(4, 5)
    drawn = io.BytesIO()
    layers_over_time(history).savefig(drawn, format="png", dpi=100)
    expected = np.asarray(Image.open(drawn).convert("RGB"), dtype=int)
    last = frames_of(history)[-1]
    assert last.shape == expected.shape
    assert np.abs(last - expected).mean() < 2  # of 255: a palette


def test_every_frame_adds_its_measurement_and_nothing_moves():
    history = history_of(5, 5)
    *frames, _ = frames_of(history)
    assert len(frames) == 5
    below_title = [frame[HEIGHT_OF_TITLE:] for frame in frames]
    for frame, following in pairwise(below_title):
        assert not np.array_equal(frame, following)
    # The names, the axes and their numbers stand left of the curves.
    assert all(np.array_equal(frame[:, :40], below_title[0][:, :40]) for frame in below_title)


@pytest.mark.parametrize("metric", ["val_acc", "never logged"])
def test_a_single_measurement_and_a_missing_metric_are_drawn(metric):
    assert len(frames_of(history_of(1, 3), metric=metric)) == 2


def test_a_history_without_a_value_has_one_frame_that_explains_it():
    assert len(frames_of(History())) == 1
