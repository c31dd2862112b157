"""The page and the picture of made tables."""

import pytest
from matplotlib.colors import to_hex

from lightning_id.study.analysis import analyse
from lightning_id.study.figure import draw_study
from lightning_id.study.page import study_page
from lightning_id.study.verdict import RULES, verdict
from tests.study.synthetic import GROUPS, SETTINGS, table

PREDICTORS = ["id_train", "id_test"]


def everywhere(noise, a, b, c, d):
    return 8 + noise + a + 0.3 * c, 0.3 + 0.1 * (noise + a + 0.3 * c) + 0.005 * (b + d)


def analysed(rows):
    return analyse(rows, predictors=PREDICTORS, groups=GROUPS, settings=SETTINGS)


def page_of(rows):
    return study_page(analysed(rows), "picture.png", "table.csv", "lightning-id study made.yaml")


@pytest.fixture(scope="module")
def rows():
    return table(everywhere)


@pytest.fixture(scope="module")
def analysis(rows):
    return analysed(rows)


@pytest.fixture(scope="module")
def page(rows):
    return page_of(rows)


@pytest.fixture(scope="module")
def few():
    """Rows for pages of which the correlations do not matter."""
    return table(everywhere, cells=2, seeds=2)


def lines_of(page, headline):
    section = page.split(f"\n## {headline}\n")[1].split("\n## ")[0]
    return [
        [c.strip() for c in line.strip("|").split("|")]
        for line in section.split("\n")
        if line.startswith("|")
    ]


def test_the_verdict_comes_first_in_a_sentence(analysis, page):
    text = verdict(analysis.relations["id_train"]).text
    assert page.index(f"**Id train:** {text}") < page.index("\n## ")
    assert "**Id test:** " in page


def test_the_numbers_of_the_table_equal_the_analysis(analysis, page):
    found = analysis.relations["id_train"]
    head, _, over_all, *groups = lines_of(page, "With the error")[: 3 + len(found.groups)]
    r, rho = found.over_all.pearson, found.over_all.spearman
    assert dict(zip(head[:-1], over_all[:-1], strict=True)) == {
        "held equal": "nothing",
        "runs": "72",
        "cells": "24",
        "level": "95 %",
        "r": f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]",
        "p": f"{r.p:.2g}",
        "significant": "yes: higher with higher error",
        "r without a cell": f"{r.least:.2f} to {r.most:.2f}",
        "Spearman": f"{rho.value:.2f} [{rho.low:.2f}, {rho.high:.2f}]",
    } | {"p": over_all[-1]}
    labels = [group.label for group in found.groups]
    assert [group[0] for group in groups] == [*labels[:-1], "all but the seed"]


def test_each_group_is_left_out_in_turn(rows, page):
    left_out = [line for line in lines_of(page, "With the error") if len(line) == 3]
    assert [line[0] for line in left_out] == [
        "left out",
        "---",
        "nothing",
        "label noise 0",
        "label noise 0.2",
        "label noise 0.5",
    ]
    rest = analysed([row for row in rows if row["label_noise"] > 0])
    assert left_out[3][1] == str(rest.relations["id_train"].over_all.pearson)


def test_every_cell_has_a_line_with_mean_and_deviation(rows, page):
    lines = lines_of(page, "Cells")
    assert len(lines) == 2 + 24
    assert lines[0][:2] == ["label noise", "n train"]
    first = [each["id_train"] for each in rows[:3]]
    mean = sum(first) / 3
    deviation = (sum((x - mean) ** 2 for x in first) / 2) ** 0.5
    assert f"{mean:.2f} ± {deviation:.2f}" in lines[2]


def test_only_settings_that_vary_are_correlated(page):
    assert [line[0] for line in lines_of(page, "With the settings")] == [
        "r of",
        "---",
        "label noise",
        "n train",
    ]


def test_a_setting_that_is_text_has_a_column_among_the_cells_alone(few):
    two = [row | {"width": "sgd" if row["n_train"] % 2 else "adam"} for row in few]
    text = page_of(two)
    cells = lines_of(text, "Cells")
    assert cells[0][:3] == ["label noise", "width", "n train"]
    assert {line[1] for line in cells[2:]} == {"sgd", "adam"}
    assert "width" not in [line[0] for line in lines_of(text, "With the settings")]


def test_the_error_of_a_dimension_is_stated_where_it_is_known(few, page):
    assert "The standard error of one" not in page
    text = page_of([row | {"id_test_se": 0.25} for row in few])
    assert "The standard error of one id test is 0.25 on average" in text


def test_different_numbers_of_samples_are_a_warning(few, page):
    assert "different numbers of samples" not in page
    text = page_of([row | {"n_samples_val": 100 + i % 2} for i, row in enumerate(few)])
    assert "**The runs were measured with different numbers of samples**" in text


def test_an_error_that_is_no_share_is_not_in_percent(few, page):
    large = [row | {"error": 100 * row["error"]} for row in few]
    assert lines_of(page_of(large), "Cells")[0][-1] == "error"
    assert lines_of(page, "Cells")[0][-1] == "error %"
    assert draw_study(analysed(large)).axes[0].get_ylabel() == "error"


def test_a_loss_is_not_in_percent_and_is_named_once(few, tmp_path):
    text = analysed(few).save(tmp_path / "page.md", error="val/mse").read_text()
    assert lines_of(text, "Cells")[0][-1] == "error"
    assert "The error is `val/mse`." in text
    losses = [{k.replace("error", "val/mse"): v for k, v in row.items()} for row in few]
    named = analyse(losses, "val/mse", PREDICTORS, GROUPS, SETTINGS)
    assert "is `val/mse`" not in named.save(tmp_path / "page.md", error="val/mse").read_text()


def test_every_rule_is_on_the_page(page):
    assert all(f"- **{kind}** ({rule})." in page for kind, (rule, _) in RULES.items())


def test_the_page_states_how_it_was_made(few):
    notes = {"date": "2026-01-01", "versions": "torch 9", "cpu_seconds": 60.0, "reason": None}
    text = page_of([row | notes for row in few])
    assert "- 12 of 12 trainings, seeds 0, 1." in text
    assert "Trained on 2026-01-01 with torch 9." in text
    assert "12 minutes of one core" in text
    assert "private generators of seed 0" in text


def test_seeds_are_in_the_order_of_numbers():
    text = page_of(table(everywhere, noises=[0.0], cells=1, seeds=11))
    assert "seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10." in text


def test_the_same_table_gives_the_same_page(rows, page):
    assert page_of(rows) == page


def test_a_study_of_which_all_trainings_failed_still_has_a_page_and_a_figure(rows, tmp_path):
    nothing = dict.fromkeys(("id_train", "id_test", "error"), None)
    failed = [row | nothing | {"reason": "RuntimeError: no"} for row in rows[:2]]
    analysed(failed).save(tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.count("RuntimeError: no") == 2
    assert "Inconclusive." in text
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "page.csv").exists()


def test_the_picture_has_a_panel_for_both_sets_the_deviations_and_each_further_factor(analysis):
    axes = draw_study(analysis).axes
    assert [each.get_legend().get_title().get_text() for each in axes] == [
        "label noise",
        "label noise",
        "label noise",
        "n train",
    ]


def test_a_panel_shows_every_run_in_the_colour_of_its_level(rows, analysis):
    panel = draw_study(analysis).axes[0]
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
        (round(r["id_train"], 9), round(100 * r["error"], 9), colors[f"{r['label_noise']:g}"])
        for r in rows
    }


def test_many_levels_have_as_many_colours(analysis):
    panel = draw_study(analysis).axes[3]
    assert len({to_hex(line.get_color()) for line in panel.get_lines()}) == 8
