"""Sums over the columns: the same whatever is read first, and of a subset they are its share."""

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import Geometry
from lightning_id.functional.columns import Columns
from lightning_id.functional.faiss_search import faiss_geometry

HUGE = 3e38 * (1 - 0.001 * torch.rand(40, 6, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("first", ["means", "n_nonfinite", "gram", "is_constant"])
@pytest.mark.parametrize("x", [HUGE, HUGE.T.contiguous()], ids=["tall", "wide"])
def test_means_of_rows_whose_sums_overflow_are_finite_whatever_is_read_first(x, first):
    columns = Columns(x)
    getattr(columns, first)
    torch.testing.assert_close(columns.means, x.double().mean(0).float())
    assert columns.n_nonfinite == 0


@pytest.mark.parametrize("ambient", [10, 400])
def test_rows_that_are_not_finite_are_counted(ambient):
    x = manifolds.ball(50, 3, ambient=ambient)
    x[3, 2], x[7, 0], x[7, 1] = float("nan"), float("inf"), -float("inf")
    assert Columns(x).n_nonfinite == 2


@pytest.mark.parametrize("ambient", [10, 400])
def test_a_subset_keeps_means_and_products(ambient):
    columns, index = Columns(manifolds.ball(60, 3, ambient=ambient) + 5), torch.arange(50, 10, -2)
    part = columns.subset(index)
    assert torch.equal(part.means, columns.means)
    assert torch.equal(part.gram, columns.gram[index][:, index])
    assert torch.equal(part.x, columns.x[index])


def test_the_dtype_of_the_rows_stays_known_where_another_is_computed_in():
    x = manifolds.ball(60, 3, ambient=10).to(torch.float8_e4m3fn)
    index = torch.arange(40)
    assert Columns(x).x.dtype == Columns(x).dtype == torch.float32
    assert Geometry(x).subset(index).dtype == "float8_e4m3fn"
    pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
    assert faiss_geometry(x).subset(index).dtype == "float8_e4m3fn"
