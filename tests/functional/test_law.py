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
from tests.pages import ROOT, example

law = example("law")


def test_the_point_is_that_of_a_simulation():
    for points in law.upper_points(200, 1000).values():
        neighbours = [point for name, point in points.items() if name != "independent"]
        assert 1.2 < min(neighbours) < max(neighbours) < KS_LIMIT + 0.08  # known to 0.04 from 1000


def test_the_page_has_few_false_alarms_and_the_clouds_that_must_be_found():
    page = (ROOT / "docs" / "law.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    points = [
        float(cell) for row in rows if row[0] in ("linear", "censored MLE") for cell in row[2:]
    ]
    assert max(points) == pytest.approx(KS_LIMIT, abs=0.06)
    noted = {(row[0], row[1]): float(row[-1][:-1]) for row in rows if row[-1].endswith("%")}
    assert len(noted) == 2 * len(law.CLOUDS)
    for n in ("1000", "2000"):
        lawful = "S^2", "5-ball", "S^10", "20-d Gaussian", "100-d Gaussian"
        assert sum(noted[cloud, n] for cloud in lawful) / len(lawful) <= 2
        for cloud in ("half 2-d, half 20-d", "near-duplicates, 5 %", "near-duplicates, 25 %"):
            assert noted[cloud, n] == 100
    assert noted["square in 20 columns, noise 0.002", "2000"] > 80
    assert noted["square of side 4 in 100 columns, noise 0.01", "2000"] > 80
    tokens = [row for row in rows if row[1] == "one token each"]
    assert [row[0] for row in tokens] == ["untrained", "trained"]
    assert all(int(row[-1].split()[0]) >= 6 for row in tokens)  # all blocks


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
    assert sum(broken) <= 0.02 * len(broken)


@pytest.mark.parametrize("method", ["linear", "mle"])
@pytest.mark.parametrize(
    "x",
    [
        manifolds.mixture(1000, (2, 20)),
        law.near_duplicates(2000, 0.25, seed=0),
        law.noisy_plane(2000, 0, columns=20, noise=0.002),
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
