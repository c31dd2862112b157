"""TwoNN: the values of the paper's code, the formulas, known dimensions, arguments."""

import math
import os

import numpy as np
import pytest
import torch
from naive import assert_agrees, assert_no_number, log_ratios, twonn_linear, twonn_mle
from sklearn.datasets import load_digits

from lightning_id import manifolds
from lightning_id.functional import Geometry, pca_dimension, twonn_dimension

needs_full_mnist = pytest.mark.skipif(
    "LIGHTNING_ID_DATA" not in os.environ,
    reason="LIGHTNING_ID_DATA names no folder with the full MNIST",
)


@pytest.fixture(scope="module")
def digits():
    return torch.from_numpy(load_digits().data)


def test_value_of_the_source_work_on_gaussian_rows():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1000, 5)))
    assert float(twonn_dimension(x)) == pytest.approx(5.0698, abs=5e-4)
    assert float(twonn_dimension(x.float())) == pytest.approx(5.0698, abs=5e-4)


def test_value_of_the_source_work_on_digits(digits):
    estimate = twonn_dimension(digits)
    assert float(estimate) == pytest.approx(8.834, abs=5e-3)
    assert estimate.n_ties == 18
    assert "1.0% of the nearest distances tie and are left out" in estimate.note
    assert float(twonn_dimension(digits, "mle", 0.0)) == pytest.approx(8.954, abs=5e-3)


def test_ties_between_whole_numbers_are_ties_after_normalising_too(digits):
    scaled = ((digits / 16 - 0.3) / 0.37).float()  # no two distances are equal any more
    assert twonn_dimension(scaled).n_ties == 18
    assert_agrees(twonn_dimension(scaled), float(twonn_dimension(digits)), rel=1e-6)


def mnist_images():
    from torchvision.datasets import MNIST

    images = MNIST(os.environ["LIGHTNING_ID_DATA"], train=False).data[:2000]
    return (images.flatten(1) / 255 - 0.1307) / 0.3081


@pytest.mark.full_mnist
@needs_full_mnist
def test_values_of_the_source_work_on_mnist():
    geometry = Geometry(mnist_images())
    assert float(twonn_dimension(geometry)) == pytest.approx(13.21, abs=0.02)
    assert float(twonn_dimension(geometry, "mle", 0.0)) == pytest.approx(13.25, abs=0.02)
    assert float(twonn_dimension(geometry, "mle")) == pytest.approx(13.24, abs=0.02)
    assert float(pca_dimension(geometry)) == 84


@pytest.mark.parametrize("discard_fraction", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(3, 2), (11, 1), (50, 200), (301, 7)])
def test_both_fits_are_their_formulas(shape, discard_fraction):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
    linear = twonn_dimension(x, "linear", discard_fraction)
    mle = twonn_dimension(x, "mle", discard_fraction)
    if len(x) == 3 and discard_fraction == 0.5:
        assert_no_number(
            linear, "expected at least 4 rows whose neighbours 1 and 2 are not equally far"
        )
        return
    assert_agrees(linear, twonn_linear(x, discard_fraction))
    assert_agrees(mle, twonn_mle(x, discard_fraction))


def test_mle_without_discarding_is_the_unbiased_one():
    x = manifolds.gaussian(200, 4)
    log_mu = log_ratios(x)
    assert_agrees(twonn_dimension(x, "mle", 0.0), (len(log_mu) - 1) / log_mu.sum())


@pytest.mark.parametrize("method", ["linear", "mle"])
@pytest.mark.parametrize(
    ("cloud", "dimension"),
    [
        (manifolds.sphere, 2),
        (manifolds.ball, 5),
        (manifolds.sphere, 10),
        (manifolds.torus, 3),
        (manifolds.swiss_roll, 2),
        (manifolds.linear_subspace, 8),
    ],
)
def test_known_dimensions_lie_in_the_interval_or_close_below(cloud, dimension, method):
    estimate = twonn_dimension(cloud(3000, dimension, ambient=40), method)
    bias = 0.06 * dimension  # few points near a border or in the tails: the estimate is low
    assert estimate.low - bias < dimension < estimate.high + bias
    assert estimate.goodness < 1.3 / math.sqrt(3000)


def test_above_20_the_estimate_is_a_lower_bound():
    assert 25 < float(twonn_dimension(manifolds.gaussian(2000, 50))) < 40


def test_goodness_is_the_largest_distance_from_the_law_and_large_on_a_mixture():
    estimate = twonn_dimension(manifolds.mixture(1000))
    log_mu = log_ratios(manifolds.mixture(1000))
    law = 1 - np.exp(-estimate.value * log_mu)
    steps = np.arange(1001) / 1000
    expected = max(np.abs(steps[1:] - law).max(), np.abs(steps[:-1] - law).max())
    assert estimate.goodness == pytest.approx(expected, rel=1e-5)
    assert estimate.goodness > 2 / math.sqrt(1000)


def test_the_interval_is_1_96_standard_errors_wide():
    estimate = twonn_dimension(manifolds.ball(500, 3))
    assert estimate.high - estimate.value == pytest.approx(1.96 * estimate.std_error, rel=1e-4)
    assert estimate.value - estimate.low == pytest.approx(1.96 * estimate.std_error, rel=1e-4)


@pytest.mark.parametrize("discard_fraction", [-0.1, 1.0, math.nan])
def test_a_share_out_of_range_is_refused(discard_fraction):
    with pytest.raises(ValueError, match=r"`discard_fraction`: expected a share in \[0, 1\)"):
        twonn_dimension(torch.zeros(5, 2), "linear", discard_fraction)
