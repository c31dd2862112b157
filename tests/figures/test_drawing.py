"""What the figures are drawn with: texts, scales, colours, bands."""

import math

import pytest
from matplotlib.colors import LogNorm
from matplotlib.text import Text

from lightning_id import History
from lightning_id.figures import depth_profile, heat_map
from lightning_id.figures._drawing import (
    FEW_COLORS,
    color_of,
    draw_band,
    footnote,
    new_figure,
    scale_values,
    text_figure,
    time_norm,
    turn_if_crowded,
)
from tests.figures.histories import history_of


def records(*ends):
    history = History()
    for order, (low, high) in enumerate(ends):
        history.append(
            stage="fit",
            epoch=0,
            step=1,
            layer=f"fc{order}",
            estimator="twonn",
            value=5.0,
            low=low,
            high=high,
        )
    return history.records


def test_a_text_stands_in_place_of_a_drawing_in_full():
    figure = text_figure("Nothing was measured of $x$. " * 10)
    ((axes,), (text,)) = figure.axes, figure.axes[0].texts
    assert not axes.axison
    assert text.get_text().replace("\n", " ").count(r"\$x\$") == 10
    figure.draw_without_rendering()


def test_small_print_leaves_out_empty_parts():
    figure = new_figure()
    footnote(figure, "a", "", "b")
    assert figure.get_supxlabel() == "a · b"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([5, 20], "linear"),
        ([1, 20], "log"),
        ([0, 1, 20], "symlog"),
        ([], "linear"),
        ([math.nan, 3], "linear"),
    ],
)
def test_a_wide_range_has_a_logarithmic_axis(values, scale):
    axes = new_figure().add_subplot()
    scale_values(axes, values)
    assert axes.get_yscale() == scale
    if scale == "linear":
        assert axes.get_ylim()[0] == 0


def test_crowded_times_have_logarithmic_colours():
    assert isinstance(time_norm([0, 1, 2, 5, 100]), LogNorm)
    assert not isinstance(time_norm([0, 1, 2, 3]), LogNorm)
    assert time_norm([4]).vmax == 5  # of one time: no division by zero


def test_few_items_have_the_listed_colours_and_many_distinct_ones():
    assert color_of(1, 2) == FEW_COLORS[1]
    assert len({color_of(i, 30) for i in range(30)}) == 30


def test_a_band_leaves_out_records_without_an_interval():
    axes = new_figure().add_subplot()
    draw_band(axes, [0, 1, 2], records((1.0, 3.0), (None, None), (2.0, 4.0)), "red")
    (filled,) = axes.collections
    assert {tuple(point) for point in filled.get_paths()[0].vertices} >= {
        (0, 1),
        (0, 3),
        (2, 2),
        (2, 4),
    }


def test_a_single_interval_is_a_stroke():
    axes = new_figure().add_subplot()
    draw_band(axes, [0, 1], records((1.0, 3.0), (None, None)), "red")
    stroke = axes.collections[0]
    assert stroke.get_linewidth()[0] > 1
    assert stroke.get_segments()[0].tolist() == [[0, 1], [0, 3]]


def test_names_that_would_touch_are_turned():
    axes = new_figure().add_subplot()
    for text, is_turned in (("a", False), ("a long name of a layer", True)):
        labels = [axes.text(x, 0, text) for x in (0.1, 0.2, 0.3)]
        turn_if_crowded(labels, [0.1, 0.2, 0.3], "right")
        assert [label.get_rotation() == 40 for label in labels] == [is_turned] * 3


@pytest.mark.parametrize("draw", [depth_profile, heat_map])
def test_letters_in_a_narrow_figure_are_large_and_stay_within_it(draw):
    figure = draw(history_of(6, 7), width=4.2)
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()
    assert drawn.x0 >= -0.01
    assert drawn.x1 <= 4.21
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) / 72 * 340 / 4.2 >= 8.9  # pixels, at TensorBoard's size
