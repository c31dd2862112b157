"""Random projections of wide rows, and sums in float64."""

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import twonn_dimension
from lightning_id.recording import projection
from lightning_id.recording.projection import RandomProjection, sums


def test_a_projection_sums_in_float64():
    x = torch.randn(50, 3000, generator=torch.Generator().manual_seed(0)) * 1e4
    exact = RandomProjection(3000, 64, seed=0)(x.double())
    assert torch.equal(RandomProjection(3000, 64, seed=0)(x), exact.float())


def test_a_projection_keeps_distances_on_average_and_the_dimension():
    x = manifolds.ball(1000, 5, ambient=3000)
    ratios = []
    for seed in range(30):
        rows = RandomProjection(3000, 1024, seed)(x)
        ratios.append(torch.pdist(rows[:50]).square() / torch.pdist(x[:50]).square())
    assert rows.shape == (1000, 1024)
    # Each of 30 projections is off by sqrt(2 / m) = 4.4 % in a direction, their mean by 0.8 %.
    assert abs(float(torch.cat(ratios).mean()) - 1) < 0.02
    assert 0.035 < float(torch.cat(ratios).std()) < 0.055
    plain, projected = twonn_dimension(x), twonn_dimension(rows)
    assert abs(projected.value - plain.value) < 3 * plain.std_error


def test_a_projection_is_linear_seeded_and_the_same_for_every_batch():
    x = torch.randn(6, 50, dtype=torch.float64)
    project = RandomProjection(50, 8, seed=1)
    assert torch.equal(torch.cat([project(x[:2]), project(x[2:])]), project(x))
    assert torch.equal(RandomProjection(50, 8, seed=1)(x), project(x))
    assert not torch.equal(RandomProjection(50, 8, seed=2)(x), project(x))
    torch.testing.assert_close(project(x[0] - x[1:2]), project(x[:1]) - project(x[1:2]))
    assert RandomProjection(50, 8, seed=1)(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(("n_features", "max_features"), [(1, 4), (7, 4), (8, 8), (1000, 67)])
def test_any_width_is_projected_to_a_multiple_of_four(n_features, max_features):
    rows = RandomProjection(n_features, max_features, seed=0)(torch.randn(5, n_features))
    assert rows.shape == (5, max_features // 4 * 4)


def test_every_feature_enters_each_of_the_four_sketches_once():
    ones = RandomProjection(50, 8, seed=1)(torch.eye(50)).view(50, 4, 2)
    assert ((ones != 0).sum(2) == 1).all()
    assert (ones.abs().sum(2) == 0.5).all()  # the squares of a row of four sketches add up to 1


def test_wide_rows_are_projected_some_at_a_time(monkeypatch):
    x = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    project = RandomProjection(50, 8, seed=0)
    whole, parts, part = project(x), [], project._project
    monkeypatch.setattr(projection, "_CHUNK", 100)
    monkeypatch.setattr(project, "_project", lambda rows: parts.append(len(rows)) or part(rows))
    assert torch.equal(project(x), whole)
    assert parts == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_sums_are_rounded_once_to_float32_or_wider(dtype, expected):
    x = (torch.randn(4, 30, 3, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    found = sums(x, 3)
    assert found.dtype == expected
    assert torch.equal(found, (x.double().sum(1) / 3).to(expected))
    counts = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert torch.equal(sums(x, counts), (x.double().sum(1) / counts).to(expected))


def test_sums_of_no_terms_are_zero_and_of_no_rows_none():
    assert sums(torch.zeros(3, 0, 2), 1.0).tolist() == [[0, 0]] * 3
    assert sums(torch.zeros(0, 5, 2), 1.0).shape == (0, 2)


def test_rows_of_a_chunk_have_their_own_divisors():
    x = torch.ones(3, 1, 2**20)
    found = sums(x, torch.tensor([[1.0], [2.0], [4.0]]))
    assert found[:, 0].tolist() == [1, 0.5, 0.25]
