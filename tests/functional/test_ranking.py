"""Ranking by products, in tiles, and distances and scores of pairs from the rows themselves."""

import torch

from lightning_id import manifolds
from lightning_id.functional import Geometry, ranking


def test_tiles_and_groups_change_nothing(monkeypatch):
    x = manifolds.gaussian(5000, 3)
    whole = Geometry(x).neighbors(2)
    monkeypatch.setattr(ranking, "_largest", lambda scores, k: scores.topk(k, dim=1))
    monkeypatch.setattr(ranking, "_tile_elements", lambda device: 2**18)
    tiled = Geometry(x).neighbors(2)
    assert torch.equal(whole.indices, tiled.indices)
    torch.testing.assert_close(whole.distances, tiled.distances, rtol=1e-7, atol=0)
