"""Marks of the profile: significant changes, broken laws, and the bracket from TwoNN to ESS."""

import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from lightning_id.figures import depth_profile, last_hidden_over_time
from lightning_id.functional.law import LAW_NOTE
from tests.figures.histories import history_of, texts


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
