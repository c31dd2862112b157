"""Rotation, translation, scale, order of rows and constant columns change no dimension."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import estimated

from lightning_id.functional.registry import ESTIMATORS

few = settings(max_examples=8, deadline=None, derandomize=True, database=None)
shapes = st.tuples(st.integers(60, 150), st.integers(1, 40))
seeds = st.integers(0, 2**31)
names = pytest.mark.parametrize("name", sorted(ESTIMATORS))


def cloud(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    n, d = shape
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * torch.linspace(1, 0.3, d)


def assert_unchanged(name, before, after, rel=1e-5):
    one, other = (estimated(name, x) for x in (before, after))
    assert one.reason == other.reason
    assert other.value == pytest.approx(one.value, rel=rel, nan_ok=True)
    assert other.std_error == pytest.approx(one.std_error, rel=100 * rel, nan_ok=True)
    assert other.n_used == one.n_used


@pytest.mark.parametrize(
    "name", sorted(set(ESTIMATORS) - {"pca_standardized"})
)  # of single columns
@few
@given(shape=shapes, seed=seeds)
def test_rotation(name, shape, seed):
    x = cloud(shape, seed)
    turn = torch.linalg.qr(cloud((shape[1], shape[1]), seed + 1)).Q
    assert_unchanged(name, x, x @ turn)


@names
@few
@given(shape=shapes, seed=seeds, offset=st.floats(-1e3, 1e3, width=32))
def test_translation(name, shape, seed, offset):
    x = cloud(shape, seed)
    along = torch.randn(shape[1], generator=torch.Generator().manual_seed(seed)).double()
    assert_unchanged(name, x, x + offset * along)


@names
@few
@given(shape=shapes, seed=seeds, power=st.integers(-60, 60))
def test_scale(name, shape, seed, power):
    x = cloud(shape, seed).float()
    assert_unchanged(name, x, -x * 2.0**power)


@names
@few
@given(shape=shapes, seed=seeds)
def test_order_of_rows(name, shape, seed):
    x = cloud(shape, seed).float()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    assert_unchanged(name, x, x[order])


@names
@few
@given(shape=shapes, seed=seeds, columns=st.integers(1, 200), value=st.floats(-1e3, 1e3, width=32))
def test_constant_columns(name, shape, seed, columns, value):
    x = cloud(shape, seed).float()
    constant = torch.full((len(x), columns), value)
    assert_unchanged(name, x, torch.cat((constant, x), dim=1))


@few
@given(shape=shapes, seed=seeds, copies=st.integers(1, 3))
def test_repeated_rows_change_no_neighbor_estimate(shape, seed, copies):
    x = cloud(shape, seed).float()
    again = torch.cat((x, *[x[: len(x) // 3]] * copies))
    one, other = (estimated("twonn", rows) for rows in (x, again))
    assert other.value == pytest.approx(one.value, rel=1e-6)
    assert other.std_error == pytest.approx(one.std_error, rel=1e-6)
    assert other.n_duplicates == copies * (len(x) // 3)
