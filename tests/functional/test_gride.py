"""Gride: its likelihood, TwoNN as its first order, known dimensions, MNIST."""

import math

import numpy as np
import pytest
import torch
from naive import assert_agrees, assert_no_number, gride, log_ratios
from test_twonn import mnist_images, needs_full_mnist

from lightning_id import manifolds
from lightning_id.functional import Geometry, gride_dimension, twonn_dimension

ORDERS = [(1, 2), (2, 3), (1, 3), (2, 4), (4, 8), (3, 17), (16, 32)]


@pytest.mark.parametrize(("n1", "n2"), ORDERS)
@pytest.mark.parametrize("shape", [(60, 3), (200, 40), (35, 1)])
def test_value_maximises_the_likelihood(shape, n1, n2):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(n2))
    assert_agrees(gride_dimension(x, n1, n2), gride(x, n1, n2), rel=1e-5)


def test_first_orders_are_the_twonn_mle_without_discarding():
    x = manifolds.ball(500, 5)
    one, other = gride_dimension(x), twonn_dimension(x, "mle", 0.0)
    assert one.value == pytest.approx(other.value, rel=1e-12)
    assert one.std_error == pytest.approx(other.std_error, rel=2 / 500)  # N - 1 against N
    assert one.goodness == pytest.approx(other.goodness, rel=1e-9)


@pytest.mark.full_mnist
@needs_full_mnist
def test_values_on_mnist():
    geometry = Geometry(mnist_images())
    expected = {1: 13.25, 2: 12.52, 4: 11.85, 8: 11.37, 16: 11.10, 32: 10.81}
    for n1, value in expected.items():
        assert float(gride_dimension(geometry, n1, 2 * n1)) == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize(("n1", "n2"), [(1, 2), (2, 4), (2, 8)])
@pytest.mark.parametrize(
    ("cloud", "dimension"),
    [(manifolds.torus, 1), (manifolds.sphere, 2), (manifolds.torus, 3), (manifolds.ball, 5)],
)
def test_known_dimensions(cloud, dimension, n1, n2):
    estimate = gride_dimension(cloud(2000, dimension, ambient=30), n1, n2)
    bias = 0.06 * dimension
    assert estimate.low - bias < dimension < estimate.high + bias


def test_goodness_is_the_distance_from_a_beta_law():
    stats = pytest.importorskip("scipy.stats")
    x = manifolds.torus(800, 2)
    for n1, n2 in ORDERS:
        estimate = gride_dimension(x, n1, n2)
        u = np.exp(-estimate.value * log_ratios(x, n1, n2))
        expected = stats.kstest(u, stats.beta(n1, n2 - n1).cdf).statistic
        assert estimate.goodness == pytest.approx(expected, abs=1e-5)
        assert estimate.goodness < 2 / math.sqrt(800)


def test_too_few_rows_give_a_reason():
    x = manifolds.gaussian(8, 3)
    assert gride_dimension(x, 3, 7).reason is None
    assert_no_number(gride_dimension(x, 4, 8), "expected more than 8 distinct rows")
    assert_no_number(gride_dimension(torch.cat((x, x)), 4, 8), "got 8")


def test_ties_are_left_out_counted_and_a_reason_if_there_are_no_others():
    line = torch.arange(6.0)
    grid = torch.cartesian_prod(line, line, line)
    assert_no_number(gride_dimension(grid, 1, 2), "216 of 216 distinct rows tie")
    x = torch.cat((grid, 100 + manifolds.gaussian(215, 3)))
    assert_no_number(gride_dimension(x, 1, 2), "216 of 431 distinct rows tie")
    x = torch.cat((grid, 100 + manifolds.gaussian(216, 3)))
    estimate = gride_dimension(x, 1, 2)
    assert (estimate.n_ties, estimate.n_used) == (216, 216)
    assert_agrees(estimate, gride(x, 1, 2), rel=1e-5)


@pytest.mark.parametrize("orders", [(0, 1), (2, 2), (3, 2), (-1, 4)])
def test_orders_out_of_range_are_refused(orders):
    with pytest.raises(ValueError, match=r"expected 1 <= n1 < n2, got"):
        gride_dimension(manifolds.gaussian(50, 3), *orders)
