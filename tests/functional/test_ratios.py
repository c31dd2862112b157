"""Ratios of nearest distances: ties, ties that rounding broke, and coarse features."""

import pytest
import torch
from naive import assert_agrees, assert_no_number, estimated, gride, twonn_linear

from lightning_id import manifolds
from lightning_id.functional import (
    gride_dimension,
    mle_dimension,
    twonn_dimension,
)
from lightning_id.functional.ratios import CoarseFeaturesWarning

BALL = manifolds.ball(600, 5, ambient=64)
RATIOS = ("twonn", "gride", "mle")


def test_ties_only_give_a_reason():
    estimate = twonn_dimension(torch.eye(50))
    assert_no_number(estimate, "50 of 50 distinct rows tie")
    assert estimate.n_ties == 50


def orthogonal(size, dtype):
    weights = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return torch.linalg.qr(weights).Q


def line(dtype):
    return torch.linspace(-3, 3, 400, dtype=dtype)[:, None]


def line_through_a_layer(dtype):
    layer = torch.randn(2, 64, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return line(dtype) * layer[0] + layer[1]


def turned_grid(dtype):
    side = torch.arange(10, dtype=dtype)
    return torch.cartesian_prod(side, side, side) @ orthogonal(64, dtype)[:3]


def turned_one_hot(dtype):
    return torch.eye(512, dtype=dtype) @ orthogonal(512, dtype)


def time_steps(dtype):
    angles = torch.arange(50, dtype=dtype)[:, None] * 1e-4 ** (torch.arange(32, dtype=dtype) / 32)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "rows", [line, line_through_a_layer, turned_grid, turned_one_hot, time_steps]
)
def test_ties_that_rounding_broke_are_ties(rows, dtype):
    x = rows(dtype)
    assert twonn_linear(x) > 10_000  # of the ratios as they are: in one column, too
    for estimate in (twonn_dimension(x), twonn_dimension(x, "mle"), mle_dimension(x, 2)):
        assert_no_number(estimate, f"of {len(x)} distinct rows tie: their neighbours 1 and 2")
        assert estimate.n_ties > 0.9 * len(x)
    assert_no_number(gride_dimension(x, 1, 2), "distinct rows tie")


def test_ties_that_rounding_broke_are_left_out_and_counted():
    x = torch.cat((BALL, 100 + line_through_a_layer(torch.float32)))
    estimate = twonn_dimension(x)
    assert 395 < estimate.n_ties <= 400
    assert estimate.n_used == 1000 - estimate.n_ties
    assert_agrees(estimate, twonn_linear(x, resolution=1e-3), rel=1e-2)
    assert "of the nearest distances tie and are left out" in estimate.note


@pytest.mark.parametrize("name", RATIOS)
def test_single_ratios_that_rounding_does_not_resolve_are_no_ties(name):
    x = manifolds.ball(200, 5, ambient=64)
    turn = orthogonal(64, torch.float64)[:2] * 0.01
    for row, other in ((3, 30), (5, 50)):  # two neighbours each, as far but for 3e-7 of it
        x[[row + 100, other + 100]] = x[row] + turn.float() * torch.tensor([[1], [1 + 3e-7]])
    estimate = estimated(name, x)
    assert estimate.n_ties == 0
    assert estimate.note is None
    if name == "twonn":
        assert_agrees(estimate, twonn_linear(x))


def test_equal_distances_of_high_order_are_ties_though_products_break_them():
    grid = torch.cartesian_prod(*[torch.arange(9.0)] * 3) @ orthogonal(64, torch.float32)[:3]
    estimate = gride_dimension(torch.cat((grid, BALL - 3)), 17, 18)
    assert_agrees(estimate, gride(torch.cat((grid, BALL - 3)), 17, 18, resolution=1e-5), rel=1e-3)
    assert 300 < estimate.n_ties < len(grid)


def test_ties_of_more_digits_than_the_rows_have_give_no_number():
    x = line_through_a_layer(torch.float32).double()
    assert_no_number(twonn_dimension(x), "expected a dimension of at most 64, the columns, got")
    few = torch.eye(400).double() + 1e-9 * manifolds.gaussian(400, 400).double()
    few = torch.cat((few, few.new_zeros(400, 600)), dim=1)
    assert_no_number(twonn_dimension(few), "expected a dimension of at most 400, the rows, got")


@pytest.mark.parametrize("n", [20, 50, 300])
def test_rows_that_fill_their_columns_keep_their_number(n):
    for seed in range(40):
        x = manifolds.gaussian(n, 1, seed=seed)
        for name in RATIOS if n > 20 else ("twonn", "gride"):
            assert estimated(name, x).reason is None


@pytest.mark.parametrize("name", RATIOS)
def test_features_that_bfloat16_cannot_hold_have_no_number(name):
    x = (manifolds.gaussian(1500, 2, ambient=64) + 60).to(torch.bfloat16)
    assert_no_number(estimated(name, x), "to within the rounding of bfloat16 rows")


@pytest.mark.parametrize("offset", [0.8, 1.0])
def test_a_note_and_a_warning_say_where_half_precision_is_too_coarse(offset):
    x = (manifolds.gaussian(1500, 2, ambient=64) + offset).to(torch.bfloat16)
    with pytest.warns(CoarseFeaturesWarning, match="bfloat16 features are too coarse"):
        estimate = twonn_dimension(x)
    assert_agrees(estimate, twonn_linear(x))
    assert estimate.value > 2.3  # the dimension of the rounding, not of the plane
    assert estimate.n_ties > 0
    assert "bfloat16 features are too coarse" in estimate.note
