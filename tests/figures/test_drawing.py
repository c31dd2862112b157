"""What the figures are drawn with: texts, scales, colours, bands."""

import math

import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, to_hex
from matplotlib.text import Text

from lightning_id import History
from lightning_id.figures import depth_profile, heat_map, last_hidden_over_time
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
from lightning_id.functional.law import LAW_NOTE
from tests.figures.histories import history_of, texts


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


# Marks of the profile: significant changes, broken laws, and the bracket from TwoNN to ESS


def marks_of(figure):
    return [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]


def of_twonn(history, stage):
    (validation,) = [each for each in history.validations() if each.stage == stage]
    return history.at(validation, "twonn")


def without_change(history):
    """Return the history with the values of the start at all times."""
    first = {r["layer"]: r["value"] for r in of_twonn(history, "before_training")}
    for record in of_twonn(history, "fit"):
        record["value"] = first[record["layer"]]
    return history


def test_significant_changes_are_triangles_that_point_where_the_layer_went():
    history = without_change(history_of(2, 3))
    up, _, down = of_twonn(history, "fit")
    start = up["value"], down["value"]
    for record, change in ((up, 2.0), (down, -2.0)):
        record["value"] += change
        record["change"], record["change_std_error"] = change, 0.5
    figure = depth_profile(history)
    offsets = [each.get_offsets().tolist() for each in marks_of(figure)]
    assert offsets == [[[up["depth"], start[0] + 2]], [[down["depth"], start[1] - 2]]]
    assert "triangles: changed since before training" in texts(figure)


def test_marks_are_smaller_in_a_small_figure():
    history = without_change(history_of(2, 3))
    of_twonn(history, "fit")[0]["value"] += 5
    large, small = (marks_of(depth_profile(history, width=width)) for width in (7, 3.5))
    assert large
    areas = [[each.get_sizes()[0] for each in marks] for marks in (large, small)]
    assert areas[1] == pytest.approx([area / 2 for area in areas[0]])


def test_a_change_within_its_paired_bar_has_no_mark():
    history = without_change(history_of(2, 3))
    record = of_twonn(history, "fit")[0]
    record["value"] += 2.0
    record["change"], record["change_std_error"] = 2.0, 1.1
    figure = depth_profile(history)
    assert marks_of(figure) == []
    assert "triangles" not in texts(figure)


@pytest.mark.parametrize("draw", [depth_profile, last_hidden_over_time])
def test_a_value_whose_ratios_do_not_follow_the_law_is_hollow(draw):
    history = without_change(history_of(2, 3))
    record = of_twonn(history, "fit")[1]  # the last hidden layer
    assert "hollow" not in texts(draw(history))
    record["note"] = f"10 duplicates; {LAW_NOTE}"
    figure = draw(history)
    (mark,) = marks_of(figure)
    assert to_hex(mark.get_facecolors()[0]) == "#ffffff"
    assert mark.get_offsets()[0, 1] == record["value"]
    assert "hollow" in texts(figure)


def test_the_bracket_from_twonn_to_ess_is_hatched_where_both_are_known():
    history = history_of(2, 3)
    for record in of_twonn(history, "fit")[:2]:
        other = {key: value for key, value in record.items() if key not in ("estimator", "value")}
        history.append(**other, estimator="ess", value=record["value"] + 30)
    figure = depth_profile(history)
    (hatched,) = [each for each in figure.axes[0].collections if each.get_hatch()]
    low, high = (f(hatched.get_paths()[0].vertices[:, 1]) for f in (min, max))
    values = [r["value"] for r in of_twonn(history, "fit")[:2]]
    assert (low, high) == pytest.approx((min(values), max(values) + 30))
    assert figure.axes[0].get_ylim()[1] > max(values) + 30
    assert "hatched: from TwoNN to ESS" in texts(figure)
    assert "hatched" not in texts(depth_profile(history, "pca"))
