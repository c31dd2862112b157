"""Estimate: a number with its error bar; the error of terms that share neighbours."""

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import Estimate, Geometry, twonn_dimension
from lightning_id.functional.estimate import normal_interval, shared_neighbor_std_error


def kernel(neighbors, n):
    """Return K_ij = 1 if i = j or one is among the nearest of the other, as a matrix."""
    matrix = np.eye(n)
    for i, row in enumerate(neighbors.tolist()):
        for j in row:
            if j >= 0:
                matrix[i, j] = matrix[j, i] = 1
    return matrix


@pytest.mark.parametrize("k", [1, 2, 5])
def test_std_error_is_its_formula(k):
    x = manifolds.gaussian(80, 3)
    neighbors = Geometry(x).neighbors(k).indices
    neighbors[::7, 0] = -1
    influence = torch.randn(80, generator=torch.Generator().manual_seed(3)).double().abs()
    centred = (influence - influence.mean()).numpy()
    expected = math.sqrt(centred @ kernel(neighbors, 80) @ centred) / 80
    assert shared_neighbor_std_error(influence, neighbors) == pytest.approx(expected, rel=1e-12)


def test_std_error_without_neighbors_is_that_of_a_mean():
    influence = torch.randn(50, generator=torch.Generator().manual_seed(0)).double()
    nobody = torch.full((50, 2), -1)
    expected = float(influence.std(correction=0)) / math.sqrt(50)
    assert shared_neighbor_std_error(influence, nobody) == pytest.approx(expected)


def test_std_error_is_nan_where_the_sum_is_not_positive():
    influence = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    opposite = torch.tensor([[1, 3], [0, 2], [1, 3], [0, 2]])
    assert math.isnan(shared_neighbor_std_error(influence, opposite))


def test_interval_holds_95_percent_of_a_normal_law():
    low, high = normal_interval(3.0, 2.0)
    share = math.erf((high - 3.0) / 2.0 / math.sqrt(2))
    assert share == pytest.approx(0.95, abs=1e-12)
    assert low == pytest.approx(6.0 - high)


def test_float_of_an_estimate_is_its_value():
    estimate = twonn_dimension(manifolds.gaussian(50, 2))
    assert float(estimate) == estimate.value
    assert math.isnan(float(Estimate(reason="nothing")))


def test_an_estimate_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Estimate().value = 3.0


@pytest.mark.parametrize("x", [manifolds.gaussian(50, 2), torch.ones(5, 2)])
def test_to_dict_is_plain_and_survives_json_csv_and_torch(x, tmp_path):
    estimate = twonn_dimension(x)
    fields = estimate.to_dict()
    names = [field.name for field in dataclasses.fields(Estimate)]
    assert list(fields) == [name for name in names if name != "influence"]
    assert {type(value) for value in fields.values()} <= {float, int, str, type(None)}
    assert_same_fields(json.loads(json.dumps(fields)), fields)
    torch.save(fields, tmp_path / "fields.pt")
    assert_same_fields(torch.load(tmp_path / "fields.pt", weights_only=True), fields)
    text = io.StringIO()
    csv.DictWriter(text, fields).writerow(fields)
    assert len(next(csv.reader([text.getvalue()]))) == len(fields)


def assert_same_fields(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        is_nan = isinstance(value, float) and math.isnan(value)
        assert value == other[name] or (is_nan and math.isnan(other[name])), name


def test_counts_add_up():
    x = torch.cat((manifolds.gaussian(50, 2), torch.eye(2).repeat(10, 1)))
    estimate = twonn_dimension(x)
    assert estimate.n_samples == 70
    assert estimate.n_duplicates == 18
    assert estimate.n_used + estimate.n_ties + estimate.n_duplicates == 70
