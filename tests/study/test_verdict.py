"""The verdict on made tables: one for each rule."""

import re
from functools import cache

import pytest

from lightning_id.study.analysis import SEED, analyse
from lightning_id.study.verdict import RULES, is_wide, verdict
from tests.study.synthetic import GROUPS, SETTINGS, table


def related(rows, groups=GROUPS):
    found = analyse(rows, predictors=["id_train"], groups=groups, settings=SETTINGS)
    return found.relations["id_train"]


@cache
def found_in(relate, chance):
    """Return the relation in the table of a function of runs: it has the same numbers each time."""
    return related(table(relate, chance=chance))


def by_noise_only(noise, a, b, c, d):
    return noise + 0.1 * a + 0.01 * c, noise + 0.1 * b + 0.01 * d


def widths(rows):
    """Return the rows with every other cell of twice the width."""
    for number, each in enumerate(rows):
        each["width"] = 1.0 + (number // 3) % 2
    return rows


def unrelated(noise, a, b, c, d):
    return a + 0.3 * c, 0.3 + 0.2 * b + 0.1 * d


def everywhere(noise, a, b, c, d):
    return noise + a + 0.3 * c, 0.3 + 0.1 * (noise + a + 0.3 * c) + 0.005 * (b + d)


def downwards_within(noise, a, b, c, d):
    return 5 * noise + a + 0.3 * c, 0.3 + 0.05 * (5 * noise - a - 0.3 * c) + 0.002 * (b + d)


def where_labels_are_right(noise, a, b, c, d):
    error = a + 0.1 * c if noise == 0 else b + 0.1 * d
    return a + 0.1 * d, 0.3 + 0.2 * error


MADE = {
    "between groups only": by_noise_only,
    "no relation": unrelated,
    "within all groups": everywhere,
    "directions differ": downwards_within,
    "within some groups": where_labels_are_right,
}


@pytest.mark.parametrize("chance", [0, 1])
@pytest.mark.parametrize("kind", MADE)
def test_a_table_gets_the_verdict_that_it_was_made_for(kind, chance):
    found = verdict(found_in(MADE[kind], chance))
    assert found.kind == kind
    assert found.text.count(".") == 1


@pytest.mark.parametrize("chance", [0, 1])
def test_a_relation_that_follows_one_setting_is_named_after_it(chance):
    found = verdict(related(widths(table(by_noise_only, chance=chance))))
    assert found.kind == "by one setting only"
    assert "only among runs that differ in label noise; where it is held equal" in found.text
    assert verdict(related(widths(table(everywhere, chance=chance)))).kind == ("within all groups")


def test_a_relation_between_groups_has_its_direction_and_what_is_held_equal():
    groups = MADE["between groups only"]

    def downwards(*numbers):
        dimension, error = groups(*numbers)
        return -dimension, error

    for made, error in ((groups, "higher"), (downwards, "lower")):
        text = verdict(found_in(made, 0)).text
        assert f"the dimension is higher with {error} error; where " in text
        assert "or all but the seed is held equal, no relation is found." in text


def test_the_verdicts_on_both_sides_of_zero_are_mirrors():
    def downwards(*numbers):
        dimension, error = everywhere(*numbers)
        return -dimension, error

    found = verdict(found_in(downwards, 0))
    assert found.kind == "within all groups"
    assert found == verdict(found_in(everywhere, 0))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (table(everywhere, cells=8, seeds=2, noises=[0.0]), "Needs 24 runs .* got 16"),
        (table(everywhere, cells=5, seeds=5, noises=[0.0]), "at least 6 cells of settings, got 5"),
        (table(lambda *n: (n[1], 0.05 * n[2])), r"ranges from -.* to .*; a factor of 2 is needed"),
        (table(everywhere, cells=5, seeds=1, noises=[0.0, 0.1, 0.2, 0.3, 0.5]), "group with 6"),
    ],
    ids=["few runs", "few cells", "little spread", "small groups"],
)
def test_an_inconclusive_table_has_the_reason(rows, reason):
    found = verdict(related(rows))
    assert found.kind == "inconclusive"
    assert found.text.startswith("Inconclusive. ")
    assert re.search(reason, found.text)


def test_every_rule_has_a_made_table():
    assert {*MADE, "inconclusive", "by one setting only"} == set(RULES)


def test_the_groups_are_noise_levels_architectures_and_seeds():
    rows = widths(table(everywhere))
    kinds = [(group.kind, group.label) for group in related(rows).groups]
    assert kinds == [
        *[("label noise", f"label noise {each}") for each in (0, 0.2, 0.5)],
        ("architecture", "width 1"),
        ("architecture", "width 2"),
        (SEED, "nothing but the seed differs"),
    ]


def test_the_more_groups_the_wider_their_intervals():
    few, many = (
        related(table(everywhere, noises)) for noises in ([0.0, 0.5], [0.0, 0.1, 0.2, 0.5])
    )
    assert [group.correlation.level for group in few.groups] == [pytest.approx(1 - 0.05 / 3)] * 3
    assert [group.correlation.level for group in many.groups] == [pytest.approx(0.99)] * 5
    assert few.over_all.level == many.over_all.level == 0.95


def test_groups_without_an_interval_are_named_and_decide_nothing():
    rows = table(everywhere)
    small = [row for row in rows if row["label_noise"] == 0.5][:9]
    found = verdict(related([row for row in rows if row["label_noise"] < 0.5] + small))
    assert found.kind == "within all groups"


def test_runs_without_a_number_are_left_out():
    rows = table(everywhere)
    for each in rows[:3]:
        each["id_train"] = None
    assert related(rows).over_all == related(rows[3:]).over_all


@pytest.mark.parametrize(
    ("low", "high", "wide"),
    [(0.1, 0.2, True), (0.25, 0.375, True), (0.2, 0.25, False), (30, 50, False), (30, 60, True)],
)
def test_an_error_spreads_by_ten_points_or_a_factor_of_two(low, high, wide):
    assert is_wide(low, high) == wide


def test_without_groups_each_setting_that_varies_is_held_equal_in_turn():
    rows = table(everywhere, noises=[0.0, 0.5], cells=2)
    kinds = {group.kind for group in related(rows, None).groups}
    assert kinds == {"label noise", "n train", SEED}


def test_a_column_that_does_not_exist_raises():
    with pytest.raises(
        ValueError, match="`table`: expected a column 'depth', got run, label_noise"
    ):
        related(table(everywhere), ["depth"])
    with pytest.raises(ValueError, match="`table`: expected at least one run"):
        related([])
