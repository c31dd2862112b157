"""The figure of the spectra."""

import pytest
import torch

from lightning_id.figures import (
    spectra,
)
from tests.figures.histories import history_of, texts, with_spectra


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
