"""PCA and its relatives: against the singular values, known counts, the noise at 100 %."""

import math

import numpy as np
import pytest
import torch
from naive import assert_agrees, eigenvalues, pca_count
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from lightning_id import manifolds
from lightning_id.functional import (
    Geometry,
    effective_rank,
    participation_ratio,
    pca_dimension,
    pca_spectrum,
)

SHAPES = [(300, 20), (40, 300), (60, 60), (61, 60), (3, 1), (30, 9000)]


def cloud(n, d):
    generator = torch.Generator().manual_seed(n + d)
    return torch.randn(n, d, generator=generator) * torch.logspace(0, -2, d) + 3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("standardize", [False, True])
def test_spectrum_is_that_of_the_singular_values(shape, standardize):
    x = cloud(*shape)
    values = pca_spectrum(x, standardize).eigenvalues
    expected = torch.from_numpy(eigenvalues(x, standardize))
    assert values.shape == expected.shape
    assert values.dtype == torch.float64
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5 * float(expected[0]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_count_is_that_of_the_singular_values(shape, standardize, share):
    x = cloud(*shape)
    assert float(pca_dimension(x, share, standardize)) == pca_count(x, share, standardize)


def test_counts_of_the_source_work_on_digits_counted_from_1():
    x = torch.from_numpy(load_digits().data).float()
    assert float(pca_dimension(x)) == 21
    assert float(pca_dimension(x, standardize=True)) == 31
    assert float(participation_ratio(x)) == pytest.approx(13.17, abs=5e-3)
    assert float(participation_ratio(x, standardize=True)) == pytest.approx(20.23, abs=5e-3)


def test_count_is_that_of_scikit_learn():
    x = cloud(200, 50)
    for share in (0.9, 0.95, 0.99):
        n_components = PCA(share, svd_solver="full").fit(x.double().numpy()).n_components_
        assert pca_spectrum(x).components(share) == n_components


def test_wide_rows_keep_their_small_components():
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, 101).double() ** -0.6  # eigenvalues fall slowly, as of photographs
    rows = torch.linalg.qr(torch.randn(100, 100, generator=generator).double()).Q * scale
    x = rows.float() @ torch.randn(100, 150_000, generator=generator)
    assert pca_dimension(x).value == pca_count(x) > 35
    assert pca_dimension(x, 1.0).value == 99


@pytest.mark.parametrize("shape", [(200, 30), (100, 300)])
def test_all_of_the_variance_counts_what_is_not_rounding(shape):
    n, d = shape
    x = manifolds.linear_subspace(n, dimension=7, ambient=d)
    for offset in (0.0, 1.0):
        assert float(pca_dimension(x + offset, 1.0)) == 7


@pytest.mark.parametrize("shape", [(200, 30), (30, 200)])
@pytest.mark.parametrize("standardize", [False, True])
def test_participation_ratio_and_effective_rank_are_their_formulas(shape, standardize):
    x = cloud(*shape)
    values = eigenvalues(x, standardize)
    assert_agrees(participation_ratio(x, standardize), values.sum() ** 2 / (values**2).sum())
    singular = np.sqrt(values[values > 1e-9 * values[0]])
    share = singular / singular.sum()
    assert_agrees(effective_rank(x, standardize), np.exp(-(share * np.log(share)).sum()), rel=1e-3)


def test_constant_columns_count_for_nothing_when_standardised():
    x = torch.cat((cloud(100, 5), torch.full((100, 3), 0.1)), dim=1)
    assert float(pca_dimension(x, 1.0, standardize=True)) == 5
    assert float(participation_ratio(x, True)) == pytest.approx(
        float(participation_ratio(cloud(100, 5), True)), rel=1e-5
    )


def test_repeated_rows_count_and_there_is_no_error_bar():
    x = cloud(40, 5)
    estimate = pca_dimension(torch.cat((x, x[:10])))
    assert (estimate.n_samples, estimate.n_used, estimate.n_duplicates) == (50, 50, 0)
    assert math.isnan(estimate.std_error)
    assert math.isnan(estimate.low)


def test_one_geometry_serves_every_share_with_one_decomposition(monkeypatch):
    calls = []
    solve = torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda a: calls.append(1) or solve(a))
    geometry = Geometry(cloud(50, 20))
    for share in (0.9, 0.95, 0.99):
        pca_dimension(geometry, share)
    effective_rank(geometry)
    assert len(calls) == 1


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, math.nan])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=r"`explained_variance`: expected a share in \(0, 1\]"):
        pca_dimension(cloud(10, 3), share)


def test_spectrum_refuses_what_has_none():
    with pytest.raises(ValueError, match="expected at least 3 rows, got 2"):
        pca_spectrum(torch.zeros(2, 5))
