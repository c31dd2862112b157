"""Which runs are correlated: over all, within groups, without groups, less runs without numbers."""

import pytest

from lightning_id.study.analysis import (
    Analysis,
    analyse,
    correlation,
    order_of,
    title_of,
    value_text,
    varied,
)
from lightning_id.study.statistics import LEVEL
from tests.study.synthetic import GROUPS, SETTINGS, table


def related(noise, a, b, c, d):
    return 8 + noise + a + 0.3 * c, 0.3 + 0.1 * (noise + a + 0.3 * c) + 0.005 * (b + d)


ROWS = table(related, noises=[0.0, 0.5], cells=6, seeds=2)


def analysed(rows=ROWS, **options):
    options = {"predictors": ["id_train"], "groups": GROUPS, "settings": SETTINGS} | options
    return analyse(rows, **options)


def labels(analysis, predictor="id_train"):
    return [(group.kind, group.label) for group in analysis.relations[predictor].groups]


SEED_GROUP = ("seed", "nothing but the seed differs")


def test_runs_of_equal_settings_but_the_seed_are_a_cell():
    found = analysed()
    assert found.rows[0]["cell"] == found.rows[1]["cell"] == "label_noise 0.0, n_train 1000"
    assert len({row["cell"] for row in found.rows}) == 12
    over_all = found.relations["id_train"].over_all
    assert (over_all.n_runs, over_all.n_units) == (24, 12)


def test_a_column_of_cells_is_taken_as_it_is_and_runs_without_settings_are_their_own():
    named = analysed([row | {"cell": row["n_train"]} for row in ROWS])
    assert [row["cell"] for row in named.rows] == [row["n_train"] for row in ROWS]
    alone = analysed(settings=None, groups={})
    assert [row["cell"] for row in alone.rows] == [f"run {i}" for i in range(24)]


def test_groups_have_their_own_correlations_and_the_ones_of_all_others():
    relation = analysed().relations["id_train"]
    assert labels(analysed()) == [
        ("label noise", "label noise 0"),
        ("label noise", "label noise 0.5"),
        SEED_GROUP,  # one architecture: all there is
    ]
    first, second, seeds = relation.groups
    rows = analysed().rows
    assert first.correlation.n_runs == 12
    assert first.without == correlation(rows[12:], "id_train", "error")
    assert second.without == correlation(rows[:12], "id_train", "error")
    assert seeds.without is None
    assert relation.over_all == correlation(rows, "id_train", "error")


def test_intervals_of_groups_hold_jointly():
    relation = analysed().relations["id_train"]
    n_testable = sum(group.correlation.reason is None for group in relation.groups)
    assert n_testable == 3
    assert {group.correlation.level for group in relation.groups} == {1 - (1 - LEVEL) / 3}
    assert relation.over_all.level == LEVEL


def test_without_groups_each_setting_that_varies_but_the_seed_is_one():
    kinds = dict.fromkeys(kind for kind, _ in labels(analysed(groups=None)))
    assert list(kinds) == ["label noise", "n train", "seed"]
    assert labels(analysed(groups=["label_noise"]))[0] == ("label noise", "label noise 0")
    both = analysed(groups={"both": ["label_noise", "n_train"]})
    assert labels(both)[0] == ("both", "label noise 0, n train 1000")
    assert labels(analysed(groups={})) == [SEED_GROUP]


def test_runs_without_a_number_are_left_out():
    rows = [row | {"error": None} if i % 3 == 0 else row for i, row in enumerate(ROWS)]
    relation = analysed(rows).relations["id_train"]
    assert relation.over_all.n_runs == 16
    known = [row["error"] for row in rows if row["error"] is not None]
    assert (relation.low, relation.high) == (min(known), max(known))


def test_a_table_without_any_number_has_no_correlation():
    relation = analysed([row | {"error": None} for row in ROWS]).relations["id_train"]
    assert (relation.over_all.n_runs, relation.low, relation.high) == (0, 0, 0)
    assert relation.over_all.reason is not None


def test_an_error_may_be_one_less_a_metric():
    rows = [{k: v for k, v in row.items() if k != "error"} for row in ROWS]
    rows = [row | {"val_acc": 1 - plain["error"]} for row, plain in zip(rows, ROWS, strict=True)]
    found, expected = analysed(rows, error="1 - val_acc"), analysed()
    assert found.error == "error"
    assert found.relations["id_train"].over_all.pearson.value == pytest.approx(
        expected.relations["id_train"].over_all.pearson.value, rel=1e-9
    )


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "expected at least one run, got none"),
        (ROWS, {"predictors": ["id_val"]}, "expected a column 'id_val', got run, label_noise"),
        (ROWS, {"error": "loss"}, "expected a column 'loss'"),
        (ROWS, {"error": "1 - val_acc"}, "expected a column 'val_acc'"),
        (ROWS, {"others": ["peak"]}, "expected a column 'peak'"),
        (ROWS, {"groups": ["depth"]}, "expected a column 'depth'"),
        (ROWS, {"settings": ["lr"]}, "expected a column 'lr'"),
    ],
)
def test_a_column_that_does_not_exist_is_named(rows, options, message):
    with pytest.raises(ValueError, match=f"`table`: {message}"):
        analysed(rows, **options)


def test_settings_that_vary_are_kept_in_order():
    assert varied(ROWS, SETTINGS) == ["label_noise", "n_train", "seed"]
    assert analysed().settings == ["label_noise", "n_train", "seed"]


@pytest.mark.parametrize(
    ("errors", "outcome", "is_share"),
    [
        ([0.1, 1.0, None], "", True),
        ([0.1, -1.0], "", True),
        ([0.1, 1.01], "", False),
        ([0.1, 0.2], "val_loss", False),
        ([0.1, 0.2], "1 - val_acc", True),
    ],
)
def test_errors_of_at_most_1_are_shares_unless_they_are_a_loss(errors, outcome, is_share):
    rows = [{"error": error} for error in errors]
    assert Analysis(rows, "error", {}, [], outcome=outcome).is_share("error") is is_share


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("last_hidden_val", "last hidden dimension (val)"),
        ("peak_train", "peak dimension (train)"),
        ("peak_depth_val", "depth of the peak (val)"),
        ("peak_over_last_val", "peak / last hidden dimension (val)"),
        ("label_noise", "label noise"),
    ],
)
def test_a_column_has_a_title(column, title):
    assert title_of(column) == title


def test_settings_are_sorted_as_numbers_then_missing_ones_then_text():
    assert sorted(["sgd", 10, None, 9, "adam", 0.5], key=order_of) == [
        0.5,
        9,
        10,
        None,
        "adam",
        "sgd",
    ]


def test_settings_are_shown_as_text():
    assert [value_text(each) for each in (None, 0.10, 3, "adam", True)] == [
        "-",
        "0.1",
        "3",
        "adam",
        "True",
    ]
