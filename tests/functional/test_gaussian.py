"""The Gaussian of the same covariance: as TwoNN on linear clouds, far above it on curved ones."""

import math
from pathlib import Path

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import gaussian_twonn_dimension, get_estimator, twonn_dimension

ROOT = Path(__file__).parents[2]
OTHER = 7  # seed of the data: with that of the estimator's own cloud, both would be the same rows


def closed_curve(n=1000, harmonics=20):
    t = 2 * math.pi * torch.rand(n, 1, generator=torch.Generator().manual_seed(OTHER))
    t = t * torch.arange(1, harmonics + 1)
    return torch.cat((t.cos(), t.sin()), dim=1)


def assert_alike(first, second):
    assert abs(first.value - second.value) < 3 * math.hypot(first.std_error, second.std_error)


@pytest.mark.parametrize("ambient", [60, 3000])
@pytest.mark.parametrize("dimension", [1, 2, 8, 20])
def test_of_a_gaussian_cloud_it_is_the_twonn_dimension(dimension, ambient):
    x = manifolds.gaussian(1500, dimension, ambient, seed=OTHER)
    assert_alike(gaussian_twonn_dimension(x), twonn_dimension(x))


def test_the_deviations_are_of_the_covariance():
    scale = torch.arange(1, 31) ** -1.0
    x = manifolds.gaussian(1500, 30, seed=OTHER) * scale
    assert_alike(gaussian_twonn_dimension(x), twonn_dimension(x))
    slip = manifolds.gaussian(1500, 30, seed=OTHER) * scale.sqrt()  # of the paper's code
    assert twonn_dimension(slip).low > gaussian_twonn_dimension(x).high


@pytest.mark.parametrize("harmonics", [5, 20])
def test_of_a_curve_it_is_far_above_the_twonn_dimension(harmonics):
    x = closed_curve(harmonics=harmonics)
    linear = manifolds.gaussian(1000, 2 * harmonics, seed=OTHER)
    assert float(twonn_dimension(x)) == pytest.approx(1, abs=0.1)
    assert_alike(gaussian_twonn_dimension(x), twonn_dimension(linear))


def test_of_a_sphere_it_is_the_dimension_of_the_space_around_it():
    x = manifolds.sphere(1500, 2, 50)
    assert float(twonn_dimension(x)) == pytest.approx(2, abs=0.2)
    assert float(gaussian_twonn_dimension(x)) == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("factor", [1e-60, 1e-3, 1e6, 1e58])
def test_it_does_not_depend_on_the_scale(factor):
    x = manifolds.gaussian(300, 4, seed=OTHER).double()
    assert float(gaussian_twonn_dimension(factor * x)) == pytest.approx(
        float(gaussian_twonn_dimension(x)), rel=1e-5
    )


def test_the_seed_decides_and_the_global_random_numbers_are_left_alone():
    x = closed_curve()
    before = torch.get_rng_state()
    first = gaussian_twonn_dimension(x)
    assert first == gaussian_twonn_dimension(x, seed=0)
    assert first.value != gaussian_twonn_dimension(x, seed=1).value
    assert torch.equal(before, torch.get_rng_state())


def test_one_more_direction_of_little_variance_draws_no_other_cloud():
    scale = torch.arange(1, 32) ** -1.0
    scale[30] = 4e-3  # above the rounding, and below what neighbours see
    x = manifolds.gaussian(1600, 31, seed=OTHER) * scale
    expected = float(gaussian_twonn_dimension(x[:, :30]))
    assert float(gaussian_twonn_dimension(x)) == pytest.approx(expected, rel=1e-3)


def test_the_estimate_says_what_it_was_made_from():
    estimate = gaussian_twonn_dimension(manifolds.ball(200, 3).half())
    assert (estimate.n_samples, estimate.dtype, estimate.backend) == (200, "float16", "gram")
    assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.ones(2, 4), "expected at least 3 rows"),
        (torch.full((5, 4), math.nan), "NaN or infinite"),
        (torch.ones(50, 4), "expected at least 3 distinct rows, got 1"),
        (torch.ones(50, 400), "expected at least 3 distinct rows, got 1"),
    ],
)
def test_what_has_no_number_has_a_reason(x, reason):
    estimate = gaussian_twonn_dimension(x)
    assert math.isnan(estimate.value)
    assert reason in estimate.reason


def test_a_configuration_can_ask_for_it():
    assert get_estimator("twonn_gaussian") is gaussian_twonn_dimension
