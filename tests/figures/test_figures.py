"""Every figure of every history: numbers or what is missing, whole, and at what cost."""

import time
from itertools import pairwise

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_id import History
from lightning_id.figures import (
    linear_and_nonlinear,
    per_class,
    spectra,
)
from lightning_id.history import Validation
from tests.figures.histories import (
    BROKEN,
    BROKEN_FOR_ONE,
    FIGURES,
    NAN,
    drawn_numbers,
    history_of,
    png,
    texts,
    with_field,
)


def assert_tells_something_and_is_whole(figure):
    figure.draw_without_rendering()
    assert drawn_numbers(figure) or any(
        text in texts(figure) for text in ("No ", "Nothing ", "None of ", "not measured")
    )
    drawn = figure.get_tightbbox()  # in inches, of all that is drawn
    width, height = figure.get_size_inches()
    assert round(width * figure.dpi) == 1050
    assert drawn.x0 > -0.01
    assert drawn.y0 > -0.01
    assert drawn.x1 < width + 0.01
    assert drawn.y1 < height + 0.01


def assert_no_two_names_on_an_axis_overlap(figure):
    for axes in [*figure.axes, *(child for a in figure.axes for child in a.child_axes)]:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = [
                label
                for place, tick in zip(
                    axis.get_majorticklocs(), axis.get_major_ticks(), strict=True
                )
                for label in (tick.label1, tick.label2)
                if low <= place <= high and label.get_visible() and label.get_text()
            ]
            # A turned label is compared by its foot: the boxes around turned labels do overlap.
            boxes = [t.get_window_extent() for t in labels if not t.get_rotation()]
            gap = 8 if axis is axes.xaxis else 0  # half a letter
            assert not any(
                a.padded(gap / 2).overlaps(b.padded(gap / 2)) for a, b in pairwise(boxes)
            )
            feet = [
                getattr(t.get_window_extent(), "x1" if t.get_ha() == "right" else "x0")
                for t in labels
                if t.get_rotation()
            ]
            letter = 8 * 150 / 72
            assert all(abs(b - a) > letter for a, b in pairwise(feet))


@pytest.fixture(scope="module")
def seen():
    """The contents of figures that were drawn, by name."""
    return {name: [] for name in FIGURES}


@pytest.mark.parametrize("history", BROKEN)
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_numbers_or_says_what_is_missing_and_nothing_is_cut(name, history, seen):
    figure = FIGURES[name](BROKEN[history]())
    lines = [line.get_xydata().tolist() for line in figure.findobj(Line2D)]
    content = str((texts(figure), lines, drawn_numbers(figure)))
    if content in seen[name]:
        return  # not every figure depends on all that is broken: drawing takes most of the time
    seen[name].append(content)
    assert_tells_something_and_is_whole(figure)
    if history in ("whole", "unicode", "60 layers", "200 characters"):
        assert_no_two_names_on_an_axis_overlap(figure)


@pytest.mark.parametrize("history", BROKEN_FOR_ONE)
def test_a_figure_without_what_it_needs_draws_the_rest_or_notes_it(history):
    name, make = BROKEN_FOR_ONE[history]
    assert_tells_something_and_is_whole(FIGURES[name](make()))


def test_what_is_cut_is_found():
    figure = Figure(figsize=(2, 1), dpi=525)
    figure.add_subplot().set_title("a title that is wider than the figure")
    with pytest.raises(AssertionError):
        assert_tells_something_and_is_whole(figure)


@pytest.mark.parametrize(
    "name",
    ["depth_profile", "heat_map", "linear_and_nonlinear", "compare", "last_hidden_and_metric"],
)
def test_an_empty_history_and_one_without_values_are_distinguished(name):
    assert "Nothing was measured" in texts(FIGURES[name](History())) or name == "compare"
    figure = FIGURES[name](history_of(value=NAN))
    assert "too few distinct rows" in texts(figure) or name == "compare"
    assert not drawn_numbers(figure)


@pytest.mark.parametrize("draw", [linear_and_nonlinear, per_class, spectra])
def test_no_figure_tells_of_a_training_that_was_not_seen(draw):
    history = history_of()
    spectrum = history.spectra[("fit", 2, 300)]
    history.records = [r for r in history.records if r["step"] == 300]
    with_field(history, stage="validate", epoch=0, step=0)
    history.spectra_by_set = {None: {Validation("validate", 0, 0): spectrum}}
    said = texts(draw(history))
    assert "validate" in said
    assert "trained" not in said


def time_of(draw, history):
    """Return the seconds that a figure takes the processor, and its picture."""
    start = time.process_time()
    picture = png(draw(history))
    return time.process_time() - start, picture


@pytest.fixture(scope="module")
def long_history():
    return history_of(200, 16, n_classes=10)


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "scale_profiles"])
def test_two_hundred_validations_of_sixteen_layers_take_three_times_as_long_as_two_of_three(
    name, long_history
):
    # Against a small figure at the same moment, because seconds depend on the machine.
    small = history_of(2, 3)
    time_of(FIGURES[name], small)  # fonts are found and read once
    for _ in range(8):  # again where it took longer: a neighbour on the core costs time too
        (spent, picture), (unit, _) = (time_of(FIGURES[name], h) for h in (long_history, small))
        if spent < 3 * unit:
            break
    print(f"{name}: {spent:.2f} s of {unit:.2f} s, {len(picture) / 1000:.0f} kB")
    assert spent < 3 * unit
    assert len(picture) < 300_000
