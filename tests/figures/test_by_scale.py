"""The figure of the dimension by scale."""

import torch

from lightning_id.figures import (
    scale_profiles,
)
from lightning_id.functional import scale_profile
from tests.figures.histories import texts


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
