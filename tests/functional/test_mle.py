"""Levina-Bickel: the three conventions, known dimensions, MNIST."""

import math

import numpy as np
import pytest
import torch
from naive import assert_agrees, assert_no_number, distinct_rows, levina_bickel, sorted_distances
from test_twonn import mnist_images, needs_full_mnist

from lightning_id import manifolds
from lightning_id.functional import Geometry, mle_dimension

AVERAGES = ["mackay-ghahramani", "levina-bickel", "unbiased"]


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("k", [3, 5, 10, 20])
@pytest.mark.parametrize("shape", [(60, 3), (200, 40), (25, 1)])
def test_values_are_their_formulas(shape, k, average):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(k))
    assert_agrees(mle_dimension(x, k, average), levina_bickel(x, k, average), rel=1e-5)


@pytest.mark.full_mnist
@needs_full_mnist
def test_values_on_mnist():
    geometry = Geometry(mnist_images())
    expected = {5: (18.3, 13.7, 12.56), 10: (15.4, 13.7, 11.93), 20: (14.2, 13.5, 11.58)}
    for k, (levina, unbiased, mackay) in expected.items():
        assert float(mle_dimension(geometry, k, "levina-bickel")) == pytest.approx(levina, abs=0.05)
        assert float(mle_dimension(geometry, k, "unbiased")) == pytest.approx(unbiased, abs=0.05)
        assert float(mle_dimension(geometry, k)) == pytest.approx(mackay, abs=0.005)


@pytest.mark.parametrize("average", AVERAGES[::2])
@pytest.mark.parametrize(
    ("cloud", "dimension"),
    [(manifolds.torus, 1), (manifolds.sphere, 2), (manifolds.torus, 3), (manifolds.sphere, 6)],
)
def test_known_dimensions(cloud, dimension, average):
    estimate = mle_dimension(cloud(2000, dimension, ambient=30), 8, average)
    bias = 0.06 * dimension
    assert estimate.low - bias < dimension < estimate.high + bias


def test_levina_bickel_is_larger_than_unbiased_by_its_factor():
    x = manifolds.ball(300, 4)
    ratio = float(mle_dimension(x, 10, "levina-bickel")) / float(mle_dimension(x, 10, "unbiased"))
    assert ratio == pytest.approx(9 / 8)


def test_goodness_is_the_distance_from_a_gamma_law():
    stats = pytest.importorskip("scipy.stats")
    x = manifolds.torus(800, 2)
    distances, _ = sorted_distances(distinct_rows(x))
    sums = np.log(distances[:, 9:10] / distances[:, :9]).sum(1)
    for average in AVERAGES:
        estimate = mle_dimension(x, 10, average)
        expected = stats.kstest(sums, stats.gamma(9, scale=1 / estimate.value).cdf).statistic
        assert estimate.goodness == pytest.approx(expected, abs=1e-5)
    assert mle_dimension(x, 10).goodness < 2 / math.sqrt(800)


def test_too_few_rows_give_a_reason():
    x = manifolds.gaussian(20, 3)
    assert_no_number(mle_dimension(x, 20), "expected more than 20 distinct rows")
    assert mle_dimension(x, 19).reason is None


def test_ties_are_left_out_counted_and_a_reason_if_there_are_no_others():
    assert_no_number(mle_dimension(torch.eye(50), 5), "50 of 50 distinct rows tie")
    x = torch.cat((torch.eye(30), torch.zeros(30, 30) + 50))
    x[30:, :3] += manifolds.gaussian(30, 3)
    for average in AVERAGES:
        estimate = mle_dimension(x, 5, average)
        assert (estimate.n_ties, estimate.n_used) == (30, 30)
        assert_agrees(estimate, levina_bickel(x, 5, average), rel=1e-5)


@pytest.mark.parametrize(
    ("k", "average"), [(1, "mackay-ghahramani"), (2, "levina-bickel"), (2, "unbiased")]
)
def test_too_few_neighbors_are_refused(k, average):
    with pytest.raises(ValueError, match=rf"`k`: expected at least .*got {k}"):
        mle_dimension(manifolds.gaussian(50, 3), k, average)
