"""Figures at a third of the time, for tests of which they are a by-product."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from lightning_id.figures import _drawing


class QuickFigure(Figure):
    """A figure of few pixels whose parts are not made to fit."""

    def __init__(self, *args: Any, dpi: float, layout: str, **kwargs: Any) -> None:
        super().__init__(*args, dpi=30, **kwargs)


def draw_quickly(patch: pytest.MonkeyPatch) -> None:
    """Draw with `QuickFigure` until the patch is undone; tests/figures look at whole ones."""
    patch.setattr(_drawing, "Figure", QuickFigure)
