"""What several processes find who hold some of the columns each, by the estimators that do most."""

import os

import pytest
import torch
from torch import distributed

from lightning_id import manifolds
from lightning_id.functional import (
    Geometry,
    change,
    ess_dimension,
    gaussian_twonn_dimension,
    scale_profile,
)
from lightning_id.functional.sharded import sharded_geometry
from tests.processes import in_ranks

AMBIENT = (40, 900)


def numbers(geometry, moved, line):
    """Return what the estimators find that search for neighbours and solve for spectra."""
    profile = scale_profile(geometry, blocks=(1, 3)).decimation
    found = change(geometry, moved)
    return [
        float(gaussian_twonn_dimension(geometry)),
        *(part.mean for part in profile),
        found.value,
        found.std_error,
        float(ess_dimension(geometry, 20)),
        ess_dimension(geometry, 20).std_error,
        float(ess_dimension(line, 20)),  # of angles so small that they are measured in float64
    ]


def cloud(ambient):
    return manifolds.gaussian(300, 6, ambient, seed=7)


def states(x):
    """Return rows, the same rows in another state, and rows on a line."""
    return x, torch.relu(x), torch.cat((x[:, :1], 2 * x[:, :1]), dim=1)


def sharded_numbers(meeting):
    rank = int(os.environ["RANK"])
    distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    here = slice(200) if rank == 0 else slice(200, 300)
    found = []
    for x in map(cloud, AMBIENT):
        found += numbers(*(sharded_geometry(rows[here]) for rows in states(x)))
    distributed.destroy_process_group()
    return found


def test_processes_that_share_a_layer_find_the_numbers_of_one(tmp_path):
    first, second = in_ranks(sharded_numbers, str(tmp_path / "meeting"))
    alone = [number for x in map(cloud, AMBIENT) for number in numbers(*states(x))]
    assert first == second
    assert first == pytest.approx(alone, rel=1e-4)


def swapped():
    """Return rows near each other in fours, two with the halves of the columns of two others."""
    base = (1000 + 10 * manifolds.ball(40, 3, ambient=4).repeat(1, 2)).round()
    rows = [base + 2.0**-10 * bit for bit in torch.eye(8)[[0, 1, 4, 5]]]
    return torch.cat((*rows, rows[0][:5]))


def sharded_duplicates():
    rank = int(os.environ["RANK"])
    distributed.init_process_group("gloo")
    geometry = sharded_geometry(swapped()[rank::2])
    found = geometry.n_duplicates, float(geometry.neighbors(3).distances.sum())
    distributed.destroy_process_group()
    return found


def test_equal_rows_are_equal_in_all_columns_though_halves_are_swapped():
    first, second = in_ranks(sharded_duplicates)
    alone = Geometry(swapped())
    assert first == second
    assert first[0] == alone.n_duplicates == 5
    assert first[1] == pytest.approx(float(alone.neighbors(3).distances.sum()), rel=1e-6)
