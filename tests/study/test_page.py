"""The page and the picture of made tables."""

from dataclasses import fields

import pytest
from matplotlib.colors import to_hex

from lightning_id.study.analysis import analyse, varied
from lightning_id.study.figure import draw_study
from lightning_id.study.grid import Settings
from lightning_id.study.page import study_page
from lightning_id.study.verdict import RULES, verdict
from tests.study.synthetic import table


def everywhere(noise, a, b, c, d):
    return 8 + noise + a + 0.3 * c, 0.3 + 0.1 * (noise + a + 0.3 * c) + 0.005 * (b + d)


@pytest.fixture(scope="module")
def rows():
    return table(everywhere)


@pytest.fixture(scope="module")
def page(rows):
    return study_page(rows, "picture.png", "table.csv", "lightning-id study made.yaml")


def lines_of(page, headline):
    section = page.split(f"\n## {headline}\n")[1].split("\n## ")[0]
    return [
        [c.strip() for c in line.strip("|").split("|")]
        for line in section.split("\n")
        if line.startswith("|")
    ]


def test_the_verdict_comes_first(rows, page):
    text = verdict(analyse(rows, "id_train")).text
    assert page.index(f"**On training images:** {text}") < page.index("\n## ")
    assert "**On test images:** " in page


def test_the_numbers_of_the_table_are_those_of_the_analysis(rows, page):
    found = analyse(rows, "id_train")
    head, _, over_all, *groups = lines_of(page, "With the test error")[: 3 + len(found.groups)]
    r, rho = found.over_all.pearson, found.over_all.spearman
    assert dict(zip(head[:-1], over_all[:-1], strict=True)) == {
        "group": "all runs", "runs": "72", "cells": "24", "level": "95 %",
        "r": f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]", "p": f"{r.p:.2g}",
        "r without a cell": f"{r.least:.2f} to {r.most:.2f}",
        "Spearman": f"{rho.value:.2f} [{rho.low:.2f}, {rho.high:.2f}]",
    }  # fmt: skip
    assert [group[0] for group in groups] == [group.label for group in found.groups]


def test_every_cell_has_a_line_with_mean_and_deviation(rows, page):
    lines = lines_of(page, "Cells")
    assert len(lines) == 2 + 24
    assert lines[0][:2] == ["label noise", "training images"]
    first = [each["id_train"] for each in rows[:3]]
    mean = sum(first) / 3
    deviation = (sum((x - mean) ** 2 for x in first) / 2) ** 0.5
    assert f"{mean:.2f} ± {deviation:.2f}" in lines[2]


def test_only_settings_that_vary_are_correlated(page):
    assert [line[0] for line in lines_of(page, "With the settings")] == [
        "r of", "---", "label noise", "training images",
    ]  # fmt: skip


def test_every_number_among_the_settings_but_the_seed_is_looked_at_where_it_varies(rows):
    for field in fields(Settings):
        levels = [each | {field.name: i % 2} for i, each in enumerate(rows)]
        is_factor = field.type in (int, float) and field.name != "seed"
        assert (field.name in varied(levels)) == is_factor


def test_an_optimiser_that_varies_has_a_column_among_the_cells(rows):
    two = [row | {"optimizer": "sgd" if row["n_train"] % 2 else "adam"} for row in rows]
    cells = lines_of(study_page(two, "p.png", "t.csv", "x"), "Cells")
    assert cells[0][:3] == ["label noise", "training images", "optimizer"]
    assert {line[2] for line in cells[2:]} == {"sgd", "adam"}


def test_dimensions_without_an_error_have_a_page(rows):
    text = study_page([row | {"id_test_se": None} for row in rows], "p.png", "t.csv", "x")
    assert "The standard error of one dimension" not in text


def test_every_rule_is_on_the_page(page):
    assert all(f"- **{kind}** ({rule})." in page for kind, rule in RULES.items())


def test_it_says_how_it_was_made(page):
    assert "72 of 72 trainings, seeds 0, 1, 2, on mnist" in page
    assert "Trained on 2026-01-01 with torch 9." in page
    assert "private generators of seed 0" in page
    assert "n_samples 1000" in page


def test_seeds_are_in_the_order_of_numbers():
    rows = table(everywhere, noises=[0.0], cells=1, seeds=11)
    text = study_page(rows, "picture.png", "table.csv", "x")
    assert "seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, on mnist" in text


def test_the_peak_is_said_to_be_the_input_where_it_is(rows):
    at_input = [each | {"peak_depth_test": 0.0} for each in rows[:30]] + rows[30:]
    assert "the input itself in 30 of 72 runs" in study_page(at_input, "p.png", "t.csv", "x")


def test_the_same_table_gives_the_same_page(rows, page):
    assert study_page(rows, "picture.png", "table.csv", "lightning-id study made.yaml") == page


def test_a_study_of_which_nothing_is_left_still_has_a_page_and_a_picture(rows, tmp_path):
    failed = [
        each | dict.fromkeys(("id_train", "id_test", "test_error", "date"), None)
        | {"reason": "RuntimeError: no"}
        for each in rows[:2]
    ]  # fmt: skip
    for each in failed:
        each |= {name: None for name, value in each.items() if value == 0.5}
    text = study_page(failed, "picture.png", "table.csv", "x")
    assert text.count("RuntimeError: no") == 2
    assert "Inconclusive." in text
    draw_study(failed).savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_has_a_panel_for_both_sets_the_deviations_and_each_further_factor(rows):
    axes = draw_study(rows).axes
    assert [each.get_legend().get_title().get_text() for each in axes] == [
        "label noise", "label noise", "label noise", "training images",
    ]  # fmt: skip


def test_a_panel_shows_every_run_in_the_colour_of_its_level(rows):
    panel = draw_study(rows).axes[0]
    shown = {
        (round(float(x), 9), round(float(y), 9), to_hex(line.get_color()))
        for line in panel.get_lines()
        for x, y in zip(*line.get_data(), strict=True)
    }
    colors = {
        text.get_text(): to_hex(handle.get_color())
        for text, handle in zip(
            panel.get_legend().get_texts(), panel.get_legend().legend_handles, strict=True
        )
    }
    assert shown == {
        (round(r["id_train"], 9), round(100 * r["test_error"], 9), colors[f"{r['label_noise']:g}"])
        for r in rows
    }


def test_many_levels_have_as_many_colours(rows):
    panel = draw_study(rows).axes[3]
    assert len({to_hex(line.get_color()) for line in panel.get_lines()}) == 8
