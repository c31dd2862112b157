"""One geometry of rows serves several estimators, and its subset is that of its rows."""

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import (
    Geometry,
    products,
    twonn_dimension,
)
from lightning_id.functional.neighbors import NeighborSearch


def test_fewer_neighbors_after_more_come_from_the_same_search(monkeypatch):
    geometry = Geometry(manifolds.ball(60, 3))
    many = geometry.neighbors(20)
    monkeypatch.setattr(NeighborSearch, "find", None)
    few = geometry.neighbors(3)
    assert torch.equal(few.distances, many.distances[:, :3])
    assert torch.equal(few.indices, many.indices[:, :3])


def test_blocks_of_columns_change_nothing(monkeypatch):
    x = manifolds.ball(300, 5, ambient=70) + 1
    whole = Geometry(x)
    nearest, spectrum = whole.neighbors(2), whole.spectrum()
    wide = Geometry(x[:50])
    spectrum_of_few_rows = wide.spectrum(standardize=True)
    monkeypatch.setattr(products, "BLOCK", 8)
    blocked = Geometry(x)
    torch.testing.assert_close(blocked.neighbors(2).distances, nearest.distances)
    torch.testing.assert_close(blocked.spectrum(), spectrum, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        Geometry(x[:50]).spectrum(standardize=True), spectrum_of_few_rows, rtol=1e-4, atol=1e-4
    )


def test_what_is_asked_of_neighbors_is_checked():
    x = manifolds.ball(10, 2)
    for k in (0, 10, -1):
        with pytest.raises(ValueError, match=rf"`k`: expected 1 to 9 .*got {k}"):
            Geometry(x).neighbors(k)
    with pytest.raises(ValueError, match="got 1 \\(of 10; 9 repeat another row\\)"):
        Geometry(torch.ones(10, 2)).neighbors(1)


def test_a_geometry_serves_several_estimators_without_a_second_search(monkeypatch):
    geometry = Geometry(manifolds.ball(100, 3))
    first = twonn_dimension(geometry)
    monkeypatch.setattr(NeighborSearch, "find", None)
    assert twonn_dimension(geometry) == first
    assert twonn_dimension(geometry, "mle").value != first.value


def test_a_subset_is_the_geometry_of_its_rows():
    x = manifolds.ball(300, 5, ambient=400) + 3
    index = torch.arange(250, 50, -3)
    whole, alone = Geometry(x), Geometry(x[index])
    part = whole.subset(index)
    # Wrong products would be noticed and made good: only the time would tell.
    assert torch.equal(part.columns.gram, whole.columns.gram[index][:, index])
    torch.testing.assert_close(part.neighbors(3).distances, alone.neighbors(3).distances)
    assert torch.equal(part.neighbors(3).indices, alone.neighbors(3).indices)
    for standardize in (False, True):
        torch.testing.assert_close(
            part.spectrum(standardize), alone.spectrum(standardize), rtol=1e-4, atol=1e-5
        )


def test_invalid_rows_have_no_moments():
    with pytest.raises(ValueError, match=r"1 of 5 rows hold NaN"):
        Geometry(torch.eye(5, 2).index_fill(0, torch.tensor([3]), float("nan"))).moments()
