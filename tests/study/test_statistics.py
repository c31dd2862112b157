"""Correlations of runs in cells, against scipy, brute force, and tables that hold no relation."""

import csv
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lightning_id.study.analysis import analyse, correlation
from lightning_id.study.statistics import _coefficients, _ranks, correlate
from lightning_id.study.verdict import verdict

CELLS = [f"cell{i}" for i in range(8) for _ in range(3)]


def two_numbers(n=24, slope=0.6, seed=0, decimals=8):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=n).round(decimals)
    return x.tolist(), (slope * x + draw.normal(size=n)).round(decimals).tolist()


@pytest.mark.parametrize("decimals", [8, 0], ids=["all different", "with ties"])
def test_the_coefficients_equal_scipy(decimals):
    x, y = two_numbers(decimals=decimals)
    found = correlate(x, y, CELLS)
    assert found.pearson.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic)


def test_the_coefficients_within_cells_are_of_the_deviations():
    x, y = two_numbers()
    means = [np.repeat(np.reshape(z, (8, 3)).mean(1), 3) for z in (x, y)]
    found = correlate(x, y, CELLS, within=True)
    expected = stats.pearsonr(x - means[0], y - means[1]).statistic
    assert found.pearson.value == pytest.approx(expected)


def test_a_run_that_is_drawn_twice_counts_twice():
    x, y = (np.array(z) for z in two_numbers(10, decimals=0))
    times = np.array([2, 0, 1, 1, 3, 1, 0, 1, 1, 2])
    drawn = np.repeat(np.arange(10), times)
    weights = times[None].astype(float)
    assert _ranks(weights, x)[0][drawn] + 0.5 == pytest.approx(stats.rankdata(x[drawn]))
    expected = stats.spearmanr(x[drawn], y[drawn]).statistic
    assert _coefficients(weights, x, y, ranked=True)[0] == pytest.approx(expected)


def test_without_a_cell_is_without_all_of_its_runs():
    x, y = two_numbers()
    found = correlate(x, y, CELLS)
    left = []
    for cell in range(8):
        kept = [i for i in range(24) if i // 3 != cell]
        left.append(stats.pearsonr([x[i] for i in kept], [y[i] for i in kept]).statistic)
    assert (found.pearson.least, found.pearson.most) == pytest.approx((min(left), max(left)))


def test_p_is_the_share_of_all_exchanges_of_whole_cells():
    x, y = two_numbers(12, slope=1)
    blocks = np.arange(12).reshape(6, 2)
    by_chance = [
        stats.pearsonr(x, np.array(y)[blocks[list(order)].ravel()]).statistic
        for order in itertools.permutations(range(6))
    ]
    found = correlate(x, y, [i // 2 for i in range(12)])
    exact = np.mean(np.abs(by_chance) >= found.pearson.value - 1e-9)
    assert found.pearson.p == pytest.approx(exact, abs=4 * np.sqrt(exact / 9999))


def test_p_within_cells_exchanges_no_run_with_another_cell():
    # In each cell the higher of x has the higher of y: of 2**6 exchanges two are as extreme.
    x = [i + 100 * cell for cell in range(6) for i in (0, 1)]
    y = [i - 100 * cell for cell in range(6) for i in (0, 1)]
    found = correlate(x, y, [i // 2 for i in range(12)], within=True)
    assert found.pearson.value == pytest.approx(1)
    assert found.pearson.p == pytest.approx(2 / 64, abs=0.008)


def test_cells_of_other_sizes_are_not_exchanged_for_each_other():
    x, y = two_numbers(13)
    cells = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6]
    found = correlate(x, y, cells)
    assert found.n_units == 7
    assert 0 < found.pearson.p <= 1
    sizes = [cell for cell in range(1, 7) for _ in range(cell)]  # no two cells are of one
    assert correlate(*two_numbers(21, slope=2), sizes).pearson.p == 1


def related_by_chance(seed, cells):
    """Two numbers without a relation; four fifths of their variance is between cells of three."""
    draw = np.random.default_rng(seed)
    x, y = (
        (np.sqrt(0.8) * np.repeat(draw.normal(size=8), 3) + np.sqrt(0.2) * draw.normal(size=24))
        for _ in range(2)
    )
    return correlate(x.tolist(), y.tolist(), cells, resamples=199)


def test_where_there_is_no_relation_one_is_found_in_five_percent_of_the_tables():
    found = [related_by_chance(seed, CELLS).sign != 0 for seed in range(300)]
    assert np.mean(found) < 0.08


def test_runs_taken_for_independent_would_be_found_related_far_too_often():
    found = [related_by_chance(seed, list(range(24))).sign != 0 for seed in range(100)]
    assert np.mean(found) > 0.13


def test_a_relation_is_found():
    x, y = two_numbers(slope=2)
    assert correlate(x, y, CELLS).sign == 1
    assert correlate(x, [-each for each in y], CELLS).sign == -1


def test_an_interval_of_a_higher_level_is_wider():
    x, y = two_numbers()
    narrow, wide = (correlate(x, y, CELLS, level).pearson for level in (0.95, 0.995))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_a_p_value_that_is_too_large_for_the_level_leaves_nothing_significant():
    x, y = two_numbers(18, slope=1.2)
    cells = [i // 3 for i in range(18)]
    strict = correlate(x, y, cells, level=0.9999)
    assert correlate(x, y, cells).sign == 1
    assert strict.pearson.p > 1e-4  # six cells can be exchanged in 720 ways
    assert strict.sign == 0


def test_runs_of_one_cell_are_resampled_one_by_one():
    x, y = two_numbers()
    assert correlate(x, y, ["one"] * 24) == correlate(x, y, list(range(24)))


def test_cells_of_one_run_say_nothing_about_seeds():
    x, y = two_numbers(14)
    found = correlate(x, y, [*[i // 2 for i in range(12)], 6, 7], within=True)
    assert (found.n_runs, found.n_units) == (12, 6)


@pytest.mark.parametrize(
    ("x", "cells", "within", "reason"),
    [
        ([1.0, 2, 4, 3, 5, 7, 6, 9, 8, 10], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], False, "got 5"),
        ([3.0] * 10, list(range(10)), False, "the same in all runs"),
        ([0.1 * (i // 2) for i in range(14)], [i // 2 for i in range(14)], True, "the same in all"),
        ([], [], False, "got 0"),
        ([], [], True, "got 0"),
    ],
    ids=["few cells", "constant", "constant in cells", "nothing", "nothing in cells"],
)
def test_without_an_interval_there_is_a_reason_and_no_significance(x, cells, within, reason):
    found = correlate(x, [float(i**2 % 7) for i in range(len(x))], cells, within=within)
    assert reason in found.reason
    assert found.sign == 0
    assert np.isnan([found.pearson.low, found.pearson.high, found.pearson.p]).all()


def test_the_same_seed_gives_the_same_numbers_and_the_global_generator_is_left_alone():
    x, y = two_numbers()
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert correlate(x, y, CELLS) == correlate(x, y, CELLS)
    assert correlate(x, y, CELLS) != correlate(x, y, CELLS, seed=1)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


# --- 72 trainings on MNIST -----------------------------------------------------------------------

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def mnist():
    """The table of 72 trainings, with the statistics of the release that made it."""
    with (HERE / "mnist.csv").open() as file:
        rows = [
            {name: value if name == "cell" else float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
    return rows, json.loads((HERE / "mnist.json").read_text())


@pytest.mark.parametrize("predictor", ["id_train", "id_test"])
def test_the_statistics_of_72_trainings_are_the_same_to_the_last_digit(mnist, predictor):
    rows, expected = mnist
    groups = {"label noise": "label_noise", "architecture": ["width", "depth"]}
    found = analyse(rows, "test_error", [predictor], groups).relations[predictor]
    golden = expected[predictor]
    assert json.loads(json.dumps(asdict(found.over_all))) == golden["over_all"]
    correlations = {group.label: asdict(group.correlation) for group in found.groups}
    assert json.loads(json.dumps(correlations)) == golden["groups"]
    assert found.high - found.low == golden["spread"]
    assert (golden["verdict"], verdict(found).kind) == (
        "by label noise only",
        "by one setting only",
    )
    assert "differ in label noise" in verdict(found).text


def test_further_correlations_of_72_trainings_are_the_same_to_the_last_digit(mnist):
    rows, expected = mnist
    for name, golden in expected["with"].items():
        x, y, within = name.split()
        found = correlation(rows, x, y, within=within == "True")
        assert json.loads(json.dumps(asdict(found))) == golden
