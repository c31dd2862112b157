"""The change of a dimension on the same samples, and its paired error bar."""

import math
from functools import partial

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import (
    Geometry,
    change,
    change_of_estimates,
    gride_dimension,
    mle_dimension,
    pca_dimension,
    twonn_dimension,
)
from tests.functional import naive
from tests.pages import ROOT, example

RATIOS = {
    "twonn": twonn_dimension,
    "twonn mle": partial(twonn_dimension, method="mle"),
    "gride": partial(gride_dimension, n1=2, n2=4),
    "mle": partial(mle_dimension, k=5),
    "mle of the rows": partial(mle_dimension, k=5, average="unbiased"),
}
ratios = pytest.mark.parametrize("estimator", RATIOS.values(), ids=RATIOS)


def states(n=300, size=0.05, seed=0):
    """Return rows in two states: on a ball of five dimensions, and off it by noise."""
    x = manifolds.ball(n, 5, ambient=20, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return x, x + size * torch.randn(x.shape, generator=generator)


@pytest.mark.parametrize(
    ("estimator", "influence"),
    [
        ("twonn", naive.twonn_influence),
        (partial(twonn_dimension, method="mle", discard_fraction=0.0), naive.mle_influence),
        ("gride", naive.mle_influence),
    ],
)
def test_value_and_bar_are_their_formula(estimator, influence):
    x, y = states()
    value, std_error = naive.paired_change(x, y, influence)
    found = change(x, y, estimator)
    assert found.reason is None
    assert found.value == pytest.approx(value, rel=1e-4)
    assert found.std_error == pytest.approx(std_error, rel=1e-4)
    assert found.high - found.value == pytest.approx(1.96 * std_error, rel=1e-3)
    assert found.low + found.high == pytest.approx(2 * found.value)


@ratios
def test_the_value_is_the_difference_of_the_estimates(estimator):
    x, y = states()
    assert change(x, y, estimator).value == float(estimator(y)) - float(estimator(x))


@ratios
def test_identical_states_differ_by_exactly_nothing(estimator):
    x, _ = states()
    same = change(x, x.clone(), estimator)
    assert (same.value, same.std_error, same.low, same.high) == (0, 0, 0, 0)
    assert same.reason is None
    assert not same.is_significant


@ratios
def test_the_paired_bar_is_that_of_fresh_samples(estimator):
    found = [change(*states(300, 0.05, seed), estimator) for seed in range(60)]
    values = torch.tensor([each.value for each in found], dtype=torch.float64)
    errors = torch.tensor([each.std_error for each in found], dtype=torch.float64)
    # The deviation of 60 is known to 9 %.
    assert 0.75 < float(errors.mean() / values.std()) < 1.35
    held = (values - values.mean()).abs() <= 1.96 * errors
    assert float(held.double().mean()) >= 0.85


def test_a_small_change_has_a_bar_far_below_the_bars_of_the_estimates():
    x, y = states(1000, 0.001)
    separate = math.hypot(twonn_dimension(x).std_error, twonn_dimension(y).std_error)
    assert change(x, y).std_error < separate / 10


def test_forth_and_back_is_the_same_with_the_other_sign():
    x, y = states()
    forth, back = change(x, y), change(y, x)
    assert (forth.value, forth.std_error) == (-back.value, back.std_error)
    assert forth.is_significant
    assert back.is_significant
    assert (forth.low, forth.high) == (-back.high, -back.low)


def test_layers_of_other_widths_are_compared():
    x, _ = states()
    y = torch.relu(x @ torch.randn(20, 64, generator=torch.Generator().manual_seed(1)))
    value, std_error = naive.paired_change(x, y)
    found = change(Geometry(x), Geometry(y))
    assert (found.value, found.std_error) == pytest.approx((value, std_error), rel=1e-4)


def test_rows_that_repeat_in_one_state_are_left_out_of_that_state_alone():
    x, y = states()
    y[[10, 11, 12, 200]] = y[[5, 5, 250, 3]]
    value, std_error = naive.paired_change(x, y)
    found = change(x, y)
    assert found.reason is None
    assert (found.value, found.std_error) == pytest.approx((value, std_error), rel=1e-4)
    y[10] += 1  # only one row of the two
    assert change(x, y).std_error != found.std_error


def test_rows_that_repeat_in_both_states_change_nothing():
    x, y = states()
    twice = torch.arange(300).repeat(2)[:350]
    assert change(x[twice], y[twice]).value == change(x, y).value
    assert change(x[twice], y[twice]).std_error == pytest.approx(change(x, y).std_error)


def test_tied_rows_have_no_share():
    x, y = states()
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]) + 100
    y[:4] = torch.cat((corners, torch.zeros(4, 18)), dim=1)  # each has two nearest at 1
    estimate = twonn_dimension(y)
    assert estimate.n_ties == 4
    assert not estimate.influence.shares[:4].any()
    value, std_error = naive.paired_change(x, y)
    found = change(x, y)
    assert (found.value, found.std_error) == pytest.approx((value, std_error), rel=1e-4)


def test_the_shares_add_up_to_nothing_and_are_of_every_row():
    x, _ = states()
    x[7] = x[3]
    influence = twonn_dimension(x).influence
    assert influence.shares.shape == (300,)
    assert float(influence.shares[7]) == 0
    assert influence.neighbors[7].tolist() == [-1, -1]
    assert 7 not in influence.neighbors
    assert float(influence.shares.sum()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (manifolds.ball(50, 2), manifolds.ball(60, 2), "same samples in both states, got 50"),
        (torch.ones(50, 2), manifolds.ball(50, 2), "no estimate of the first state: expected at"),
        (manifolds.ball(50, 2), torch.full((50, 2), math.nan), "of the second state: 50 of 50"),
    ],
)
def test_without_a_number_there_is_a_reason(x, y, reason):
    found = change(x, y)
    assert all(math.isnan(each) for each in (found.value, found.std_error, found.low, found.high))
    assert reason in found.reason
    assert not found.is_significant


def test_an_estimator_without_error_bars_has_a_value_and_a_reason():
    x, y = states()
    for name in ("pca", "twonn_gaussian"):
        found = change(x, y, name)
        assert math.isfinite(found.value)
        assert math.isnan(found.std_error)
        assert "no error bar" in found.reason
        assert not found.is_significant
    assert float(found) == found.value


def test_an_unknown_estimator_is_named():
    with pytest.raises(ValueError, match="no estimator named 'nothing'"):
        change(*states(), "nothing")


def test_a_state_compares_with_estimates_made_before():
    x, y = states()
    assert change_of_estimates(twonn_dimension(x), twonn_dimension(y)) == change(x, y)
    assert change_of_estimates(pca_dimension(x), pca_dimension(x)).value == 0


# --- the page ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibration():
    return example("calibration_change")


def test_the_page_has_every_pair_of_its_group(calibration, tmp_path, capsys):
    words = ["--samples", "2", "--rows", "60", "--group", "manifolds", "--cache", str(tmp_path)]
    calibration.main([*words, "--out", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert page in capsys.readouterr().out
    pairs = calibration.manifold_pairs(60, 0)
    assert all(page.count(f"| {pair} |") == len(calibration.ESTIMATORS) for pair in pairs)
    assert "both exactly 0" in page


def test_extremes_expected_of_right_bars_equal_the_extremes_of_draws(calibration):
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn((2000, 29, 100), generator=generator)
    measures = {
        calibration.expected_coverages: (draws.abs() <= 1.96).double().mean(2),
        calibration.expected_ratios: 1 / draws.std(2),
    }
    for expected, found in measures.items():
        low, high = expected(100, 29)
        assert (found.min(1).values < low).double().mean() < 0.05
        assert (found.max(1).values > high).double().mean() < 0.05


def test_no_measure_of_the_page_is_outside_the_expected_ones():
    page = (ROOT / "docs" / "calibration_change.md").read_text()
    extremes = page[page.index("| rows |") : page.index("| states |")]
    rows = [line.strip("| ").split(" | ") for line in extremes.splitlines() if line[2:3].isdigit()]
    assert [row[0] for row in rows] == ["500", "1000", "2000"]
    for row in rows:
        cells = [[float(v.strip("%")) for v in cell.split(" to ")] for cell in row[1:]]
        for found, expected in (cells[:2], cells[2:]):
            assert expected[0] <= found[0] <= found[1] <= expected[1]
