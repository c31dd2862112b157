"""Figures of one measurement: classes, spectra, scales."""

import numpy as np
import pytest
import torch

from lightning_id.figures import (
    per_class,
    scale_profiles,
    spectra,
)
from lightning_id.functional import scale_profile
from tests.figures.histories import history_of, texts, with_spectra

# --- the figure of classes by themselves ----------------------------------------------------------


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


# --- the figure of the spectra --------------------------------------------------------------------


def test_the_spectra_are_shares_and_their_ratio_is_last_over_first():
    history = history_of(2, 1)
    shares, ratios = spectra(history).axes[:2]
    before, after = (torch.arange(1, 501).double() ** -p for p in (1, 1.5))
    before, after = before / before.sum(), after / after.sum()
    line = shares.get_lines()[0]
    assert list(line.get_ydata()) == pytest.approx(
        [float(after[round(x) - 1]) for x in line.get_xdata()], rel=1e-3
    )
    line = ratios.get_lines()[0]
    assert list(line.get_ydata()) == pytest.approx(
        [float(after[round(x) - 1] / before[round(x) - 1]) for x in line.get_xdata()], rel=1e-3
    )
    assert "over untrained" in texts(shares.figure)


def test_eigenvalues_that_are_rounding_are_not_drawn():
    history = with_spectra(history_of(2, 1), torch.tensor([4.0, 2.0, 1e-7, -1e-8]))
    assert list(spectra(history).axes[0].get_lines()[0].get_xdata()) == [1, 2]


# --- the figure of the dimension by scale ---------------------------------------------------------


def test_the_scale_profile_shows_distances_blocks_and_the_flat_part():
    generator = torch.Generator().manual_seed(0)
    profile = scale_profile(
        torch.rand(2000, 3, generator=generator), max_order=32, blocks=(1, 2, 4)
    )
    figure = scale_profiles({"cube": profile})
    by_distance, by_rows = figure.axes
    line, flat = by_distance.get_lines()
    assert list(line.get_xdata()) == list(profile.scales)
    assert list(line.get_ydata()) == [e.value for e in profile.gride]
    assert len(flat.get_xdata()) == profile.flat[1] - profile.flat[0] + 1
    assert list(by_rows.get_lines()[0].get_xdata()) == [2000, 1000, 500]
    assert list(by_rows.get_lines()[0].get_ydata()) == [d.mean for d in profile.decimation]
    assert "No scale profile" in texts(scale_profiles({}))
