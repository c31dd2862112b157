"""The moving picture of the depth profile."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageSequence

from lightning_id import History
from lightning_id.figures import by_depth, layers_over_time, moving_profile
from tests.figures.histories import history_of

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
