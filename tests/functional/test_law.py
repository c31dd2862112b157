"""Where the law of TwoNN does not hold."""

import math

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import (
    is_law_broken,
    twonn_dimension,
)
from lightning_id.functional.law import KS_LIMIT, LAW_NOTE
from tests.functional.clouds import noisy
from tests.pages import example


def cube(n):
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(1))


def near_duplicates(n):
    x = manifolds.gaussian(n, 10)
    x[: n // 4] = noisy(x[n // 4 : 2 * (n // 4)], 1e-3)
    return x


@pytest.mark.parametrize("method", ["linear", "mle"])
def test_the_limit_is_beyond_the_highest_hundredth_of_a_simulation(method):
    points = example("law").upper_points(200, 1000, method)
    neighbours = [point for name, point in points.items() if name != "independent"]
    assert 1.2 < min(neighbours) < max(neighbours) < 1.43 + 0.08  # known to 0.04 from 1000
    rare = example("law").upper_points(50, 4000, method, 0.0005)
    assert max(rare.values()) < KS_LIMIT + 0.15


@pytest.mark.parametrize("n", [100, 500])
def test_few_false_alarms_where_the_law_holds(n):
    clouds = [
        cloud
        for seed in range(40)
        for cloud in (
            manifolds.sphere(n, 2, seed=seed),
            manifolds.ball(n, 5, seed=seed),
            manifolds.sphere(n, 10, seed=seed),
            manifolds.gaussian(n, 20, seed=seed),
        )
    ]
    broken = [twonn_dimension(x).note is not None for x in clouds]
    assert not any(broken)


@pytest.mark.parametrize("method", ["linear", "mle"])
@pytest.mark.parametrize(
    "x",
    [
        manifolds.mixture(1000, (2, 20)),
        near_duplicates(2000),
        noisy(cube(2000) @ torch.eye(2, 20), 0.002),
    ],
    ids=["mixed dimensions", "near-duplicates", "noisy plane"],
)
def test_broken_laws_are_noted(x, method):
    estimate = twonn_dimension(x, method)
    assert estimate.note == LAW_NOTE
    assert is_law_broken(estimate.goodness, estimate.n_used)


def test_a_note_on_ties_stays():
    x = manifolds.mixture(1000, (2, 20))
    x[:4] = 50 + torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]) @ torch.eye(2, x.shape[1])
    note = twonn_dimension(x).note
    assert "tie and are left out" in note
    assert note.endswith(LAW_NOTE)


def test_nothing_is_broken_where_there_is_no_estimate():
    assert not is_law_broken(math.nan, 0)
    assert twonn_dimension(torch.ones(10, 2)).note is None
