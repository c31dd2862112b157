"""What several processes find who hold some of the columns each, by the estimators that do most."""

import os
from pathlib import Path

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import change, gaussian_twonn_dimension, scale_profile
from tests.ranks import run_ranks

ROOT = Path(__file__).parents[2]
AMBIENT = (40, 900)
CODE = """
import sys, torch
from torch import distributed
from lightning_id import manifolds
from lightning_id.functional import change, gaussian_twonn_dimension, scale_profile
from lightning_id.functional.sharded import sharded_geometry
rank, meeting = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
for ambient in map(int, sys.argv[3:]):
    x = manifolds.gaussian(300, 6, ambient, seed=7)
    here = slice(200) if rank == 0 else slice(200, 300)
    geometry = sharded_geometry(x[here])
    print(float(gaussian_twonn_dimension(geometry)))
    print(*[part.mean for part in scale_profile(geometry, blocks=(1, 3)).decimation])
    moved = change(geometry, sharded_geometry(torch.relu(x[here])))
    print(moved.value, moved.std_error)
distributed.destroy_process_group()
"""


def test_processes_that_share_a_layer_find_the_numbers_of_one(tmp_path):
    words = ["-c", CODE, "RANK", str(tmp_path / "meeting"), *map(str, AMBIENT)]
    printed = run_ranks(words, env=dict(os.environ) | {"PYTHONPATH": str(ROOT)})
    first, second = ([float(word) for word in each.split()] for each in printed)
    alone = []
    for ambient in AMBIENT:
        x = manifolds.gaussian(300, 6, ambient, seed=7)
        parts = scale_profile(x, blocks=(1, 3)).decimation
        alone += [float(gaussian_twonn_dimension(x)), *(part.mean for part in parts)]
        moved = change(x, torch.relu(x))
        alone += [moved.value, moved.std_error]
    assert first == second
    assert first == pytest.approx(alone, rel=1e-4)
