"""The figure of a study: its panels, scales and legends, from tables that are made."""

import pytest

from lightning_id.study.analysis import analyse
from lightning_id.study.figure import MOST_LEVELS, MOST_PANELS, draw_study


def rows(n=12, **columns):
    """Rows of two cells, with columns made of the number of the run."""
    made = [
        {"id": 5.0 + i, "error": 0.1 + i / 100, "noise": i % 2, "cell": i % 2} for i in range(n)
    ]
    return [row | {k: v(i) for k, v in columns.items()} for i, row in enumerate(made)]


def drawn(table, settings=("noise",), **options):
    options = {"predictors": ["id"], "groups": {}} | options
    return draw_study(analyse(table, settings=list(settings), **options))


def points(axes):
    """Return the points of the lines, without the two at 0."""
    return sorted(
        (round(float(x), 9), round(float(y), 9))
        for line in axes.get_lines()
        if line.get_linestyle() == "None"
        for x, y in zip(*line.get_data(), strict=True)
    )


def test_without_a_number_the_figure_explains_it():
    (axes,) = drawn(rows(error=lambda i: None)).axes
    shown = [text.get_text() for text in axes.texts]
    assert shown == ["No training has both a dimension and an error."]


def test_a_point_is_a_run_with_both_numbers():
    table = rows(error=lambda i: None if i == 0 else 0.1 + i / 100)
    expected = [(row["id"], round(100 * row["error"], 9)) for row in table[1:]]
    assert points(drawn(table).axes[0]) == expected


def test_deviations_are_from_the_mean_of_the_cell():
    table = rows(6)
    (of_cells,) = [a for a in drawn(table).axes if "less the mean" in a.get_xlabel()]
    # Runs 0, 2, 4 and 1, 3, 5 of two cells: -2, 0 and 2 from their means.
    assert points(of_cells) == [(x, y) for x in (-2.0, 0.0, 2.0) for y in (x, x)]
    assert of_cells.get_ylabel() == "error in points,\nless the mean of the cell"


@pytest.mark.parametrize(
    ("error", "scale"),
    [
        (lambda i: 0.01 * 2**i, "log"),
        (lambda i: 0.10 + i / 1000, "linear"),
        (float, "linear"),  # 0 has no logarithm
    ],
)
def test_errors_of_a_wide_range_have_a_logarithmic_axis(error, scale):
    first, second, *_ = drawn(rows(error=error)).axes
    assert first.get_yscale() == scale
    assert second.get_yscale() == "linear"  # deviations may be negative


def test_a_setting_of_many_levels_or_missing_ones_colours_nothing():
    table = rows(
        40,
        many=lambda i: i % (MOST_LEVELS + 1),
        few=lambda i: i % MOST_LEVELS,
        gap=lambda i: None if i % 5 else 1,
        seed=lambda i: i,
    )
    axes = drawn(table, ["many", "few", "gap", "seed"]).axes
    assert {each.get_legend().get_title().get_text() for each in axes} == {"few"}
    alone = drawn(table, ["many", "gap"]).axes
    assert [each.get_legend() for each in alone] == [None, None]


def test_levels_are_in_the_order_of_numbers():
    table = rows(12, width=lambda i: [16, 2, 128][i % 3])
    legend = drawn(table, ["width"]).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["2", "16", "128"]


def test_there_are_no_more_panels_than_can_be_read():
    names = [f"setting{i}" for i in range(12)]
    table = rows(16, **{name: (lambda i, k=k: (i >> k % 4) % 2) for k, name in enumerate(names)})
    assert len(drawn(table, names).axes) == MOST_PANELS
