"""The verdict on made tables: one for each rule."""

import re

import pytest

from lightning_id.study.analysis import ARCHITECTURE, NOISE, SEED, analyse
from lightning_id.study.verdict import RULES, verdict
from tests.study.synthetic import table


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
    analysis = analyse(table(MADE[kind], chance=chance), "id_train")
    found = verdict(analysis)
    assert found.kind == kind
    assert f"r = {analysis.over_all.pearson.value:.2f} [" in found.text


@pytest.mark.parametrize("chance", [0, 1])
def test_what_follows_the_label_noise_within_each_architecture_is_said_to_do_no_more(chance):
    found = verdict(analyse(widths(table(by_noise_only, chance=chance)), "id_train"))
    assert found.kind == "by label noise only"
    assert "width 1, depth 1: r = 0.9" in found.text
    assert verdict(analyse(widths(table(everywhere, chance=chance)), "id_train")).kind == (
        "within all groups"
    )


def test_the_verdicts_on_both_sides_of_zero_are_mirrors():
    def downwards(*numbers):
        dimension, error = everywhere(*numbers)
        return -dimension, error

    found = verdict(analyse(table(downwards), "id_train"))
    assert found.kind == "within all groups"
    assert "the higher the dimension, the lower the error" in found.text
    assert "the higher the error" not in found.text


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (table(everywhere, cells=8, seeds=2, noises=[0.0]), "Needs 24 runs .* got 16"),
        (table(everywhere, cells=5, seeds=5, noises=[0.0]), "at least 6 cells of settings, got 5"),
        (table(lambda *n: (n[1], 0.05 * n[2])), r"spreads over 9\.\d points; 10 are needed"),
        (table(everywhere, cells=5, seeds=1, noises=[0.0, 0.1, 0.2, 0.3, 0.5]), "group with 6"),
    ],
    ids=["few runs", "few cells", "little spread", "small groups"],
)
def test_a_table_that_cannot_tell_says_why(rows, reason):
    found = verdict(analyse(rows, "id_train"))
    assert found.kind == "inconclusive"
    assert found.text.startswith("Inconclusive. ")
    assert re.search(reason, found.text)


def test_every_rule_has_a_made_table():
    assert {*MADE, "inconclusive", "by label noise only"} == set(RULES)


def test_the_groups_are_noise_levels_architectures_and_seeds():
    rows = widths(table(everywhere))
    kinds = [(group.kind, group.label) for group in analyse(rows, "id_train").groups]
    assert kinds == [
        (NOISE, "label noise 0"), (NOISE, "label noise 0.2"), (NOISE, "label noise 0.5"),
        (ARCHITECTURE, "width 1, depth 1"), (ARCHITECTURE, "width 2, depth 1"),
        (SEED, "nothing but the seed differs"),
    ]  # fmt: skip


def test_the_more_groups_the_wider_their_intervals():
    few, many = (
        analyse(table(everywhere, noises), "id_train")
        for noises in ([0.0, 0.5], [0.0, 0.1, 0.2, 0.5])
    )
    assert [group.correlation.level for group in few.groups] == [pytest.approx(1 - 0.05 / 3)] * 3
    assert [group.correlation.level for group in many.groups] == [pytest.approx(0.99)] * 5
    assert few.over_all.level == many.over_all.level == 0.95


def test_groups_without_an_interval_are_named_and_decide_nothing():
    rows = table(everywhere)
    small = [row for row in rows if row["label_noise"] == 0.5][:9]
    found = verdict(analyse([row for row in rows if row["label_noise"] < 0.5] + small, "id_train"))
    assert found.kind == "within all groups"
    assert found.text.endswith("Inconclusive: label noise 0.5.")


def test_runs_without_a_number_are_left_out():
    rows = table(everywhere)
    for each in rows[:3]:
        each["id_train"] = None
    assert analyse(rows, "id_train").over_all == analyse(rows[3:], "id_train").over_all
