"""The dimension of the flat part of the scale profile."""

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import (
    gride_plateau_dimension,
    scale_profile,
)
from tests.functional import naive
from tests.functional.clouds import noisy


def test_the_plateau_is_the_flat_part_of_the_profile():
    x = noisy(manifolds.gaussian(2000, 2, ambient=20), 0.002)
    profile = scale_profile(x, blocks=())
    first, last = profile.flat
    values = [estimate.value for estimate in profile.gride[first : last + 1]]
    plateau = gride_plateau_dimension(x)
    assert plateau.value == pytest.approx(sum(values) / len(values))
    assert (
        plateau.note == f"flat from order {profile.orders[first][0]} to {profile.orders[last][1]}"
    )
    assert first > 0
    assert plateau.low < 2.1
    assert plateau.high > 2


def test_without_a_plateau_there_is_a_reason():
    x = noisy(manifolds.gaussian(2000, 2, ambient=20), 0.02)
    naive.assert_no_number(gride_plateau_dimension(x), "no three orders agree: Gride has")
    naive.assert_no_number(gride_plateau_dimension(manifolds.ball(6, 2)), "too few distinct rows")
    naive.assert_no_number(gride_plateau_dimension(torch.ones(10, 2)), "distinct rows, got 1")
