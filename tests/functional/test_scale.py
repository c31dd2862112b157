"""The dimension against scale: one search, honest blocks, and where it is flat."""

import math

import pytest
import torch
from naive import distinct_rows, sorted_distances, twonn_linear

from lightning_id import manifolds
from lightning_id.functional import Geometry, gride_dimension, scale_profile, twonn_dimension
from lightning_id.functional.columns import Columns
from lightning_id.functional.neighbors import NeighborSearch
from lightning_id.functional.scale import _longest_flat_run


def noisy_plane(n=2000, noise=0.01):
    generator = torch.Generator().manual_seed(0)
    plane = torch.rand(n, 2, generator=generator) @ torch.eye(2, 20)
    return plane + noise * torch.randn(n, 20, generator=generator)


def test_estimates_equal_gride():
    x = manifolds.ball(300, 3, ambient=10)
    profile = scale_profile(x)
    assert profile.orders == ((1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 64))
    for (n1, n2), estimate in zip(profile.orders, profile.gride, strict=True):
        alone = gride_dimension(x, n1, n2)
        assert estimate.value == pytest.approx(alone.value, rel=1e-6)
        assert estimate.std_error == pytest.approx(alone.std_error, rel=1e-5)


def test_scales_are_mean_distances():
    x = manifolds.ball(200, 3)
    distances, _ = sorted_distances(distinct_rows(x))
    for (n1, n2), scale in zip(*_orders_and_scales(x), strict=True):
        expected = (distances[:, n1 - 1] + distances[:, n2 - 1]).mean() / 2
        assert scale == pytest.approx(expected, rel=1e-6)


def _orders_and_scales(x):
    profile = scale_profile(x)
    return profile.orders, profile.scales


def test_one_search_and_one_gram_matrix_serve_all(monkeypatch):
    searches, products = [], []
    search, multiply = NeighborSearch.find, Columns.gram_matrix
    monkeypatch.setattr(
        NeighborSearch,
        "find",
        lambda self, k: searches.append(self._columns.n_samples) or search(self, k),
    )
    monkeypatch.setattr(
        Columns,
        "gram_matrix",
        lambda self, dtype: products.append(dtype) or multiply(self, dtype),
    )
    scale_profile(manifolds.ball(400, 3), blocks=(1, 2, 4))
    assert searches == [400, 200, 200, 100, 100, 100, 100]
    assert sorted(products, key=str) == [torch.float32, torch.float64]  # proposals; high orders


def test_blocks_are_disjoint_of_distinct_rows_and_their_estimates_are_twonn(monkeypatch):
    x = torch.cat((manifolds.ball(403, 3), manifolds.ball(403, 3)[:100]))
    taken = []
    subset = Geometry.subset
    monkeypatch.setattr(
        Geometry, "subset", lambda self, index: taken.append(index) or subset(self, index)
    )
    profile = scale_profile(x, blocks=(1, 4))
    everything, quarters = profile.decimation
    (whole,) = everything.estimates
    assert whole.value == pytest.approx(twonn_dimension(x).value, rel=1e-6)
    assert whole.n_duplicates == 100
    assert everything.n_rows == 403
    assert quarters.n_rows == 100
    together = torch.cat(taken)
    assert len(together) == len(together.unique()) == 400
    for rows, estimate in zip(taken, quarters.estimates, strict=True):
        assert estimate.n_duplicates == 0
        assert estimate.value == pytest.approx(twonn_linear(x[rows]), rel=1e-5)
    values = torch.tensor([estimate.value for estimate in quarters.estimates])
    assert quarters.mean == pytest.approx(float(values.mean()), rel=1e-6)
    assert quarters.spread == pytest.approx(float(values.std()), rel=1e-5)


def test_the_deal_is_seeded_and_leaves_the_global_generator_alone():
    x = manifolds.ball(200, 3)
    state = torch.random.get_rng_state()
    first, again, other = (scale_profile(x, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert repr(first) == repr(again)  # repr: NaN equals NaN
    assert first.decimation[1].estimates != other.decimation[1].estimates
    assert repr(first.gride) == repr(other.gride)


def test_a_clean_manifold_is_flat_and_noise_falls():
    clean = scale_profile(manifolds.torus(2000, 2))
    assert clean.flat == (0, 5)
    assert all(1.8 < estimate.value < 2.2 for estimate in clean.gride)
    noisy = scale_profile(noisy_plane())
    assert noisy.flat is None
    values = [estimate.value for estimate in noisy.gride]
    assert values == sorted(values, reverse=True)
    means = [part.mean for part in noisy.decimation]
    assert means == sorted(means, reverse=True)
    assert values[0] > 8


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ([2.0, 2.0, 2.0], (0, 2)),
        ([9.0, 5.0, 3.0, 2.2, 2.1, 2.05], (3, 5)),
        ([5.0, 4.9, 4.8, 2.0, 1.9, 1.9], (0, 2)),  # two of equal length: the nearer
        ([5.0, 4.9, 4.8, 2.0, 1.95, 1.9, 1.9], (3, 6)),  # the longer
        ([5.0, 4.9, 4.0, 3.9], None),
        ([2.0, 2.0], None),
        ([math.nan, 2.0, 2.0], None),
        ([2.0, 2.0, 2.0, math.nan], (0, 2)),
        ([2.0, math.nan, 2.0, 2.0], None),
        ([math.nan] * 4, None),
        ([], None),
    ],
)
def test_flat_is_the_longest_run_within_the_tolerance(values, flat):
    assert _longest_flat_run(values, 0.1) == flat


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.zeros(0, 3), "expected at least 3 rows, got 0"),
        (torch.ones(50, 3), "distinct rows, got 1"),
        (torch.full((50, 3), math.nan), "50 of 50 rows hold NaN"),
    ],
)
def test_no_estimate_anywhere_gives_reasons_everywhere(x, reason):
    profile = scale_profile(x)
    assert all(reason in estimate.reason for estimate in profile.gride)
    assert all(math.isnan(scale) for scale in profile.scales)
    assert profile.flat is None
    for part in profile.decimation:
        assert all(reason in estimate.reason for estimate in part.estimates)
        assert math.isnan(part.mean)
        assert math.isnan(part.spread)


def test_few_rows_give_reasons_where_they_are_too_few():
    profile = scale_profile(manifolds.gaussian(20, 3))
    assert [estimate.reason is None for estimate in profile.gride] == [True] * 4 + [False] * 2
    assert math.isnan(profile.scales[-1])
    sixteen = profile.decimation[-1]
    assert (sixteen.n_blocks, sixteen.n_rows) == (16, 1)
    assert len(sixteen.estimates) == 16
    assert math.isnan(sixteen.mean)
    more_blocks_than_rows = scale_profile(manifolds.gaussian(5, 3), blocks=(8,)).decimation[0]
    assert "got 0" in more_blocks_than_rows.estimates[0].reason


def test_arguments_out_of_range_are_refused():
    x = manifolds.gaussian(50, 3)
    with pytest.raises(ValueError, match="`max_order`: expected at least 2, got 1"):
        scale_profile(x, max_order=1)
    with pytest.raises(ValueError, match=r"`blocks`: expected numbers from 1, got \(2, 0\)"):
        scale_profile(x, blocks=(2, 0))
