"""Expected simplex skewness: determinants, quadrature, clouds of known dimension."""

import math

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import Geometry, ess_dimension, get_estimator, twonn_dimension
from lightning_id.functional.ess import (
    _measure,
    _patches,
    _products_of,
    skewness,
    skewness_dimension,
)
from lightning_id.functional.faiss_search import faiss_geometry
from lightning_id.functional.ranking import rank
from tests.functional import naive


def cube(n, dimension, seed=0):
    return torch.rand(n, dimension, generator=torch.Generator().manual_seed(seed))


def paraboloid(n, dimension, seed=0):
    """Draw from a steep bowl that bends the same way in all directions."""
    x = manifolds.ball(n, dimension, seed=seed)
    return torch.cat((x, 20 * x.square().sum(1, keepdim=True)), dim=1)


def noisy(x, size):
    return x + size * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


# --- the formula ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [2, 3, 7.5, 20, 100, 1000])
def test_the_expected_sine_is_that_of_quadrature(dimension):
    found = float(skewness(torch.tensor([dimension], dtype=torch.float64)))
    assert found == pytest.approx(naive.expected_sine(dimension), rel=1e-5)


def test_a_dimension_comes_back_from_its_expected_sine():
    dimension = torch.tensor([1.0001, 1.5, 2, 3, 10, 50, 200, 1000], dtype=torch.float64)
    assert torch.allclose(skewness_dimension(skewness(dimension)), dimension, rtol=1e-9)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert skewness_dimension(ends).tolist() == [1.0, math.inf]


@pytest.mark.parametrize(
    "x",
    [
        manifolds.ball(60, 3, ambient=10),
        manifolds.ball(60, 3, ambient=10).double(),
        manifolds.ball(60, 3, ambient=10) + 1000,
        manifolds.ball(60, 3, ambient=10) * 1e25,
        manifolds.ball(60, 3, ambient=10) * 1e-25,
        manifolds.gaussian(60, 40),
        manifolds.ball(40, 3)[torch.arange(60) % 40],
        manifolds.gaussian(60, 1, ambient=5),
        torch.cat((manifolds.ball(30, 3) * 1e-5, manifolds.ball(30, 3) * 1e-5 + 1)),
        noisy(manifolds.ball(60, 2, ambient=5000), 0.001).half(),
    ],
)
def test_value_is_that_of_determinants(x):
    naive.assert_agrees(ess_dimension(x, k=10), naive.ess(x, 10, range(len(x.unique(dim=0)))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_at_the_mean_of_its_patch_spans_no_area(dtype):
    x = torch.cartesian_prod(*[torch.arange(-1, 2, dtype=dtype)] * 3)
    naive.assert_agrees(ess_dimension(x, k=26), naive.ess(x, 26, range(27)))


def test_of_rows_at_equal_distances_the_same_are_taken_as_by_ranking():
    geometry = Geometry(torch.randint(4, (500, 5), generator=torch.Generator().manual_seed(0)) / 4)
    anchors = torch.arange(0, len(geometry.distinct), 7)
    rows = geometry.distinct[anchors]
    ranked = rank(geometry.columns.gram, rows, geometry.distinct, 30)[1]
    found = _patches(geometry, anchors, 30).members
    assert torch.equal(found.sort(1).values, torch.cat((rows[:, None], ranked), 1).sort(1).values)


@pytest.mark.parametrize("size", [101, 300])
def test_products_of_patches_are_read_off_the_gram_matrix(size):
    gram = torch.randn(600, 600, generator=torch.Generator().manual_seed(0))
    members = torch.stack([torch.randperm(600)[:size] for _ in range(450)])
    expected = [gram[each][:, each] for each in members]
    assert torch.equal(torch.cat(list(_products_of(gram, members))), torch.stack(expected))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_the_influence_of_a_row_is_that_of_its_weight(dtype, error):
    x = manifolds.ball(30, 4, ambient=6).to(dtype) + 2
    found = _measure(torch.arange(30)[None], iter([(x @ x.T)[None]]))
    patch = x.double() - x.double().mean(0)
    right = torch.outer(patch.norm(dim=1), patch.norm(dim=1)).fill_diagonal_(0)
    cosines = torch.nn.functional.cosine_similarity(patch[:, None], patch, dim=2)
    area = right * (1 - cosines.square()).clamp_min(0).sqrt()

    def skewness_of(weight):
        pairs = torch.outer(weight, weight)
        return (pairs * area).sum() / (pairs * right).sum()

    ones = torch.ones(30, dtype=torch.float64)
    assert float(found.skewness) == pytest.approx(float(skewness_of(ones)), rel=1e-6)
    influence = torch.func.grad(skewness_of)(ones)
    assert torch.allclose(found.influence[0], influence, rtol=0, atol=error)
    residual = (area - skewness_of(ones) * right) / right.sum()
    assert float(found.pairs2) == pytest.approx(2 * float(residual.square().sum()), rel=1e-4)
    assert float(found.radius2) == pytest.approx(float(patch.square().sum(1).mean()), rel=1e-5)


def test_anchors_are_drawn_from_their_own_generator():
    x = manifolds.ball(300, 4)
    first, other = ess_dimension(x, 20, 50), ess_dimension(x, 20, 50, seed=1)
    state = torch.random.get_rng_state()
    assert ess_dimension(x, 20, 50) == first
    assert first.value != other.value
    assert torch.equal(torch.random.get_rng_state(), state)


# --- clouds of known dimension -------------------------------------------------------------------

CLOUDS = {
    "Gaussian": manifolds.gaussian,
    "ball": manifolds.ball,
    "cube": cube,
    "sphere": manifolds.sphere,
}


@pytest.mark.parametrize("cloud", CLOUDS.values(), ids=CLOUDS)
@pytest.mark.parametrize("dimension", [20, 60, 200])
@pytest.mark.parametrize("n", [500, 2000])
def test_clouds_are_read_within_four_percent(cloud, dimension, n):
    assert float(ess_dimension(cloud(n, dimension, seed=3))) == pytest.approx(dimension, rel=0.04)


@pytest.mark.parametrize("cloud", CLOUDS.values(), ids=CLOUDS)
@pytest.mark.parametrize(("dimension", "k"), [(2, 20), (3, 20), (5, 10)])
@pytest.mark.parametrize("n", [2000, 5000])
def test_few_dimensions_are_read_within_four_percent_by_small_patches(cloud, dimension, k, n):
    found = float(ess_dimension(cloud(n, dimension, seed=3), k, 1000))
    assert found == pytest.approx(dimension, rel=0.04)


@pytest.mark.parametrize(("dimension", "n"), [(5, 500), (5, 5000), (10, 500), (10, 5000)])
def test_without_borders_and_bends_patches_of_any_size_are_read_within_four_percent(dimension, n):
    x = manifolds.gaussian(n, dimension, seed=3)
    assert float(ess_dimension(x)) == pytest.approx(dimension, rel=0.04)


# Known failures: a patch that a border cuts is too low, and one that bends is too high.
@pytest.mark.parametrize(
    ("cloud", "n", "dimension", "k", "low", "high"),
    [
        (manifolds.ball, 2000, 5, 100, -0.07, -0.04),
        (cube, 5000, 5, 100, -0.07, -0.04),
        (cube, 5000, 10, 20, -0.08, -0.04),
        (cube, 5000, 10, 100, -0.08, -0.04),
        (manifolds.sphere, 500, 2, 100, 0.1, 0.16),
        (manifolds.sphere, 500, 5, 20, 0.04, 0.08),
    ],
)
def test_borders_and_bends_within_patches_are_seen(cloud, n, dimension, k, low, high):
    found = float(ess_dimension(cloud(n, dimension, seed=3), k, 500))
    assert low < found / dimension - 1 < high


def test_patches_off_the_border_are_read_within_a_hundredth():
    x = cube(5000, 5)
    central = (x - 0.5).abs().amax(1).argsort()[:300].sort().values
    patches = _patches(Geometry(x), central, 100)
    assert float(skewness_dimension(patches.skewness).mean()) == pytest.approx(5, rel=0.01)


def test_it_reads_high_dimensions_where_twonn_is_low():
    x = manifolds.gaussian(2000, 100)
    assert float(twonn_dimension(x)) < 55
    assert 98 < float(ess_dimension(x)) < 102


def test_noise_below_the_radius_of_a_patch_is_hardly_seen():
    x = noisy(manifolds.gaussian(2000, 2, ambient=100), 0.01)
    assert float(twonn_dimension(x)) > 10
    assert float(ess_dimension(x)) < 3


# Known failures: what bends within a patch counts.
@pytest.mark.parametrize(
    ("x", "low", "high"),
    [(manifolds.torus(2000, 20), 36, 42), (paraboloid(2000, 3), 3.25, 3.5)],
    ids=["torus of 20", "paraboloid of 3"],
)
def test_surfaces_that_bend_within_a_patch_are_read_too_high(x, low, high):
    assert low < float(ess_dimension(x)) < high


# --- error bars ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cloud",
    [manifolds.gaussian, manifolds.sphere, lambda n, d, seed: manifolds.gaussian(n, 50, seed=seed)],
)
def test_the_error_bar_is_that_of_fresh_samples(cloud):
    found = [ess_dimension(cloud(500, 10, seed=seed), 50, 100) for seed in range(50)]
    values = torch.tensor([each.value for each in found], dtype=torch.float64)
    errors = torch.tensor([each.std_error for each in found], dtype=torch.float64)
    # The deviation of 50 is known to 10 %.
    assert 0.65 < float(errors.mean() / values.std()) < 1.5


def test_the_error_bar_of_random_parts_of_two_dimensions_is_that_of_their_sizes():
    def parts(seed):
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(1000, generator=generator)[:500]
        return manifolds.mixture(1000, (2, 20), seed=seed)[chosen]

    found = [ess_dimension(parts(seed), 30, 100) for seed in range(40)]
    values = torch.tensor([each.value for each in found], dtype=torch.float64)
    errors = torch.tensor([each.std_error for each in found], dtype=torch.float64)
    assert 0.65 < float(errors.mean() / values.std()) < 1.5


# --- notes, reasons, counts ----------------------------------------------------------------------


def test_a_patch_that_is_no_neighbourhood_has_a_note():
    assert "more than a tenth of the 500" in ess_dimension(manifolds.ball(500, 5)).note
    assert "as wide as the whole cloud" in ess_dimension(manifolds.gaussian(2000, 300)).note
    assert ess_dimension(manifolds.ball(2000, 5)).note is None


def test_repeated_rows_count_once():
    x = manifolds.ball(200, 3)
    twice = ess_dimension(torch.cat((x, x[:50])), 20)
    assert twice.value == pytest.approx(float(ess_dimension(x, 20)), rel=1e-6)
    assert (twice.n_duplicates, twice.n_samples, twice.n_used) == (50, 250, 200)


def test_without_enough_rows_there_is_a_reason():
    naive.assert_no_number(ess_dimension(manifolds.ball(100, 3)), "more than 100 distinct rows")
    naive.assert_no_number(ess_dimension(torch.ones(200, 3)), "distinct rows, got 1")
    naive.assert_no_number(ess_dimension(torch.full((200, 3), math.nan)), "hold NaN or infinite")


@pytest.mark.parametrize(("arguments", "name"), [((2,), "`k`"), ((10, 1), "`n_anchors`")])
def test_arguments_out_of_range_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        ess_dimension(manifolds.ball(100, 3), *arguments)


def test_the_registry_has_it_with_its_defaults():
    x = manifolds.ball(400, 3)
    assert get_estimator("ess")(Geometry(x)) == ess_dimension(x)


# --- other places --------------------------------------------------------------------------------


def test_neighbours_of_faiss_give_the_same():
    pytest.importorskip("faiss")
    x = manifolds.ball(300, 4)
    naive.assert_agrees(ess_dimension(faiss_geometry(x), 20), float(ess_dimension(x, 20)), 1e-5)
