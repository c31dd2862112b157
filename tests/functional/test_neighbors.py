"""Neighbours: proposals of the Gram matrix are checked, and every stage of the check is exact."""

import numpy as np
import pytest
import torch
from naive import distinct_rows, sorted_distances

from lightning_id import manifolds
from lightning_id.functional import Geometry
from lightning_id.functional.neighbors import NeighborSearch

STAGES = ("_retry_with_more_candidates", "_retry_in_float64", "_brute_force")


@pytest.fixture
def stages(monkeypatch):
    """Rows that went through each stage after the first."""
    rows = dict.fromkeys(STAGES, 0)

    def count(name):
        stage = getattr(NeighborSearch, name)

        def counted(self, found, uncertain, *args):
            rows[name] += len(uncertain)
            return stage(self, found, uncertain, *args)

        monkeypatch.setattr(NeighborSearch, name, counted)

    for name in STAGES:
        count(name)
    return rows


def assert_neighbors_exact(x, k, rel=1e-6):
    found = Geometry(x).neighbors(k)
    rows = distinct_rows(x)
    distances, order = sorted_distances(rows)
    assert found.distances.dtype == torch.float64
    assert found.distances.shape == found.indices.shape == (len(rows), k)
    np.testing.assert_allclose(found.distances.numpy(), distances[:, :k], rtol=rel)
    # Where two distances tie either row may come first: compare what the index points at.
    pointed = np.linalg.norm(rows[found.indices.numpy()] - rows[:, None], axis=2)
    np.testing.assert_allclose(pointed, distances[:, :k], rtol=rel)
    assert (np.diff(np.sort(found.indices.numpy(), axis=1)) > 0).all()  # k different rows
    return order


@pytest.mark.parametrize("k", [1, 2, 5, 16])
@pytest.mark.parametrize(
    "shape", [(3, 1), (4, 7), (20, 1), (50, 64), (200, 5000), (300, 3), (13, 9001)]
)
def test_neighbors_equal_brute_force(shape, k):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(k)) + 3
    assert_neighbors_exact(x, min(k, len(x) - 1))


@pytest.mark.parametrize("k", [17, 40, 99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_orders_above_16_are_exact_too(k, dtype):
    x = (manifolds.ball(100, 3, ambient=30) + 5).to(dtype)
    rows = len(distinct_rows(x))
    assert_neighbors_exact(x, min(k, rows - 1))


@pytest.mark.parametrize(
    ("width", "stage"), [(1e-2, "_retry_with_more_candidates"), (1e-9, "_brute_force")]
)
def test_orders_above_16_are_exact_where_float64_products_are_not(width, stage, stages):
    apart = 1e4 * torch.arange(5.0).repeat_interleave(40)[:, None] * torch.eye(1, 30)
    x = apart.double() + width * manifolds.ball(200, 3, ambient=30).double()
    x[:, 0] = apart[:, 0]  # float64 holds no difference of 1e-9 next to 1e4
    assert_neighbors_exact(x, 30)
    assert stages[stage] > 100


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_orders_above_16_are_exact_where_float32_squares_vanish_or_overflow(scale):
    assert_neighbors_exact(scale * manifolds.ball(100, 3, ambient=30), 30)


def test_orders_above_16_of_ordinary_rows_need_no_second_look(stages):
    assert_neighbors_exact(manifolds.ball(1000, 2, ambient=64), 64)
    assert not any(stages.values())


def test_ordinary_rows_pass_the_first_stage(stages):
    assert_neighbors_exact(manifolds.ball(1000, 5, ambient=64), 2)
    assert stages["_retry_in_float64"] == stages["_brute_force"] == 0


def clumps(n, width, per_clump):
    """Return n rows in clumps of a size, the wider apart the rounder the numbers."""
    x = width * torch.randn(n, 64, generator=torch.Generator().manual_seed(0))
    clump = torch.arange(n) // per_clump
    x[torch.arange(n), clump % 64] = 10.0 * (1 + clump // 64)
    return x


# What each stage is there for. The first three neighbours are as near to each other as float32
# products can tell, a tenth is far away; fifty are; fifty are nearer than float64 products can
# tell.
NEEDS = {
    "_retry_with_more_candidates": clumps(500, 1e-3, 5),
    "_retry_in_float64": clumps(500, 1e-4, 50),
    "_brute_force": clumps(500, 1e-9, 50),
}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_reached_by_the_data_it_is_for_and_exact(stage, stages):
    assert_neighbors_exact(NEEDS[stage], 2)
    assert stages[stage] > 100
    assert not any(stages[later] for later in STAGES[STAGES.index(stage) + 1 :])


@pytest.mark.parametrize("stage", STAGES)
def test_data_that_need_a_stage_are_wrong_without_it(stage, monkeypatch):
    if stage == "_retry_with_more_candidates":
        monkeypatch.setattr(NeighborSearch, "_mended", lambda self, found, uncertain: found)
    else:
        before = STAGES[STAGES.index(stage) - 1]
        run = getattr(NeighborSearch, before)
        monkeypatch.setattr(NeighborSearch, before, lambda *args: run(*args)[:0])
    with pytest.raises(AssertionError):
        assert_neighbors_exact(NEEDS[stage], 2)


def test_a_grid_of_many_ties_is_exact():
    line = torch.arange(6.0)
    assert_neighbors_exact(torch.cartesian_prod(line, line, line), 6)


def test_products_that_overflow_or_vanish_are_in_doubt(stages):
    for scale in (1e-25, 1e-23, 1e-22, 1e-21, 1e25):
        x = scale * manifolds.ball(100, 3, ambient=10)
        assert_neighbors_exact(x, 2)
    assert stages["_retry_in_float64"] > 0
