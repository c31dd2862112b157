"""Clouds of known dimension: shape, seed, isometry, and the dimension they are named for."""

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import pca_dimension, twonn_dimension

CLOUDS = {
    "gaussian": (manifolds.gaussian, 5, 5),
    "ball": (manifolds.ball, 5, 5),
    "sphere": (manifolds.sphere, 5, 6),
    "torus": (manifolds.torus, 3, 6),
    "swiss_roll": (manifolds.swiss_roll, 2, 3),
    "linear_subspace": (manifolds.linear_subspace, 5, 10),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_cloud_has_its_natural_columns_and_is_float32_whatever_the_default_dtype(name):
    cloud, dimension, columns = CLOUDS[name]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        points = cloud(50, dimension)
    finally:
        torch.set_default_dtype(before)
    assert points.shape == (50, columns)
    assert points.dtype == torch.float32


@pytest.mark.parametrize("name", CLOUDS)
def test_ambient_space_changes_no_distance(name):
    cloud, dimension, columns = CLOUDS[name]
    natural = cloud(50, dimension, seed=3).double()
    turned = cloud(50, dimension, ambient=columns + 20, seed=3).double()
    assert turned.shape == (50, columns + 20)
    scale = float(natural.abs().max())
    torch.testing.assert_close(
        torch.pdist(turned), torch.pdist(natural), rtol=1e-5, atol=1e-6 * scale
    )


@pytest.mark.parametrize("name", CLOUDS)
def test_same_seed_same_points_and_the_global_generator_is_left_alone(name):
    cloud, dimension, _ = CLOUDS[name]
    state = torch.random.get_rng_state()
    first, again, other = (cloud(20, dimension, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", CLOUDS)
def test_twonn_finds_the_dimension_it_is_named_for(name):
    cloud, dimension, columns = CLOUDS[name]
    estimate = twonn_dimension(cloud(2000, dimension, ambient=columns + 10))
    assert abs(estimate.value - dimension) < 4 * estimate.std_error + 0.06 * dimension


def test_linear_subspace_has_as_many_components_as_dimensions():
    points = manifolds.linear_subspace(300, dimension=7, ambient=40)
    assert float(pca_dimension(points, explained_variance=1.0)) == 7


def test_sphere_has_radius_one_and_ball_less():
    torch.testing.assert_close(manifolds.sphere(100, 4).norm(dim=1), torch.ones(100))
    radii = manifolds.ball(2000, 3).norm(dim=1)
    assert float(radii.max()) <= 1
    assert float((radii < 0.5 ** (1 / 3)).float().mean()) == pytest.approx(0.5, abs=0.04)


def test_mixture_holds_balls_of_the_dimensions_given():
    points = manifolds.mixture(801, (2, 5), ambient=30)
    assert points.shape == (801, 30)
    assert float(pca_dimension(points[:401], 1.0)) == 2
    assert float(pca_dimension(points[401:], 1.0)) == 5


def test_too_small_an_ambient_space_is_refused():
    with pytest.raises(ValueError, match="expected at least 6 columns, got 5"):
        manifolds.sphere(10, dimension=5, ambient=5)
