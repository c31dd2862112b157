"""The certified count of leading eigenvalues: that of all eigenvalues, or none."""

import math
from itertools import product

import pytest
import torch
from naive import pca_count
from scipy.stats import chi2
from sklearn.datasets import load_digits

from lightning_id.functional import Geometry, leading, pca_dimension
from lightning_id.functional.eigenvalues import LinAlgError
from lightning_id.functional.leading import Leading, leading_count
from lightning_id.functional.pca import CERTIFIED, Spectrum, rounding_noise

SHARES = (0.5, 0.9, 0.95)


def spectra(size):
    """Return eigenvalues by name: steep, flat, tied, of low rank, with gaps and clusters."""
    i = torch.arange(1, size + 1, dtype=torch.float64)
    steps = torch.ceil(i / 7)
    return {
        "slow": i**-0.5,
        "inverse": 1 / i,
        "steep": i**-2,
        "exponential": torch.exp(-i / 20),
        "flat": torch.ones(size),
        "one large": torch.where(i == 1, 1e4, 1 / i),
        "two steps": torch.where(i <= size // 12, 1.0, 0.01),
        "low rank": torch.where(i <= 20, 1 / i, 0),
        "equal, of low rank": (i <= 21).double(),
        "a tie at 90 %": torch.where(i <= 9, 1.0, (i == 10).double()),
        "clusters of seven": steps**-1.5,
        "a gap": torch.where(i <= 5, 10.0, 1 / i),
        "one": (i == 1).double(),
    }


def matrix(values, seed, dtype=torch.float32):
    """Return a matrix of these eigenvalues."""
    size = len(values)
    generator = torch.Generator().manual_seed(seed)
    # Reflections are as good as any rotation here, and fast.
    found = torch.diag(values.double())
    for _ in range(3):
        v = torch.randn(size, 1, generator=generator, dtype=torch.float64)
        v /= v.norm()
        found = found - 2 * v @ (v.T @ found)
        found = found - 2 * (found @ v) @ v.T
    return ((found + found.T) / 2).to(dtype)


def clouds(size):
    """Return Gram matrices of rows: Gaussian, rectified, repeated, with an offset."""
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(size, 2 * size, generator=generator)
    decay = torch.arange(1, 2 * size + 1) ** -0.7
    rows = {
        "decay": x * decay,
        "rectified": (x * decay @ x[:300].T).relu(),
        "repeated": (x[: size // 2] * decay).repeat(2, 1),
        "nearly repeated": (x[: size // 2] * decay).repeat(2, 1) + 1e-4 * x,
        "offset": x * decay + 100,
        "outlier": torch.cat((x[:-1] * decay, 1e3 * x[-1:])),
    }
    return {name: (y - y.mean(0)) @ (y - y.mean(0)).T for name, y in rows.items()}


def of_all(moment, share):
    """Return the count from all eigenvalues, as `pca_dimension` computes it."""
    values = torch.linalg.eigvalsh(moment).flip(0).double()
    return Spectrum(values, rounding_noise(values, len(moment), moment.dtype)).components(share)


def counted(moment, share, start=None):
    noise = rounding_noise(torch.ones(1), len(moment), moment.dtype)
    return leading_count(moment, share, noise, start, slow=start is None)


@pytest.mark.parametrize("size", [150, 180, 210, 240])
def test_a_certified_count_is_that_of_all_eigenvalues(size, monkeypatch):
    monkeypatch.setattr(leading, "_LARGEST_SHARE", 6)  # so few rows are never faster
    monkeypatch.setattr(leading, "_ROUNDS", 8)
    moments = {(name, 0): moment for name, moment in clouds(size).items()}
    for name, values in spectra(size).items():
        moments |= {(name, seed): matrix(values, seed) for seed in range(3)}
    is_certified = []
    for (place, moment), share in product(moments.items(), SHARES):
        found = counted(moment, share)
        is_certified.append(found.value is not None)
        if found.value is not None:
            assert found.value == of_all(moment, share), (place, share)
            assert counted(moment, share, found.vectors).value == found.value
    assert len(is_certified) == 135
    assert sum(is_certified) > 60


@pytest.mark.parametrize("seed", range(5))
def test_float64_rows_are_counted_to_their_own_rounding(seed):
    for name, values in spectra(150).items():
        moment = matrix(values, seed, torch.float64)
        for share in SHARES:
            found = counted(moment, share)
            assert found.value in (None, of_all(moment, share)), (name, share)


def test_ties_flat_spectra_and_large_counts_are_left_to_all_eigenvalues():
    values = spectra(240)
    assert counted(matrix(values["a tie at 90 %"], 0), 0.9).value is None
    assert counted(matrix(values["a tie at 90 %"], 0), 0.91).value == 10
    assert counted(matrix(values["flat"], 0), 0.9).value is None
    assert counted(matrix(values["inverse"], 0), 0.9).value is None  # 131 of 240
    assert counted(torch.zeros(240, 240), 0.9).value is None


def test_a_sum_within_the_rounding_of_the_share_is_not_certified():
    moment = matrix(1 / torch.arange(1, 241, dtype=torch.float64) ** 2, 0)
    values = torch.linalg.eigvalsh(moment.double()).flip(0)
    margin = leading.ROUNDINGS * 2**-23 * values.norm() * math.sqrt(6) / values.sum()
    held = values.cumsum(0)[5] / values.sum()
    for moved, count in ((-1.5, 6), (-0.5, None), (0, None), (0.5, None), (1.5, 7)):
        found = counted(moment, float(held + moved * margin))
        assert found.value == count, moved


@pytest.mark.parametrize("size", [100, 240])
def test_roundings_of_either_computation_are_half_of_the_margin_at_most(size):
    moments = {name: matrix(values, 1) for name, values in spectra(size).items()} | clouds(size)
    for name, moment in moments.items():
        exact, vectors = torch.linalg.eigh(moment.double())
        exact, few = exact.flip(0), size // 6
        of_all = torch.linalg.eigvalsh(moment).flip(0).double().cumsum(0)
        share = exact.cumsum(0) / exact.sum()
        part = leading._project(moment, vectors.flip(1)[:, :few].float())
        ritz = torch.linalg.eigvalsh(part.inner).flip(0).cumsum(0)
        unit = 2**-23 * exact.norm() * torch.arange(1, few + 1).sqrt()
        assert ((of_all - share * of_all[-1]).abs()[:few] / unit).max() < 8, name
        assert ((ritz - exact.cumsum(0)[:few]) / unit).max() < 8, name


@pytest.mark.parametrize("size", [150, 240])
def test_no_eigenvalue_off_the_basis_is_above_the_bound(size):
    generator = torch.Generator().manual_seed(size)
    moments = {name: matrix(values, 2) for name, values in spectra(size).items()} | clouds(size)
    ratios = {}
    for name, moment in moments.items():
        values, vectors = torch.linalg.eigh(moment.double())
        rounding = leading.ROUNDINGS * 2**-23 * float(values.norm())
        for left_out in (0, 1, 7):  # of the leading eigenvectors
            columns = [i for i in range(size - 30, size) if i != size - 1 - left_out]
            for noise in (0, 1e-3, 0.1):
                block = vectors[:, columns].float()
                block += noise / math.sqrt(size) * torch.randn(block.shape, generator=generator)
                part = leading._project(moment, block)
                off = torch.eye(size) - part.basis.double() @ part.basis.double().T
                largest = float(torch.linalg.eigvalsh(off @ moment.double() @ off)[-1])
                assert part.outside + rounding >= largest, (name, left_out, noise)
                ratios[name, left_out, noise] = (part.outside + rounding) / largest
    assert sorted(ratios.values())[len(ratios) // 2] < 1.2


def test_the_bound_holds_for_a_direction_that_the_random_columns_hardly_have():
    columns = leading._random(torch.zeros(240, 0), leading._PROBES, leading._SEED).double()
    within = columns @ torch.randn(32, 1, generator=torch.Generator().manual_seed(0)).double()
    within /= within.norm()
    off = torch.eye(240, dtype=torch.float64) - columns @ torch.linalg.pinv(columns)
    part = math.sqrt(1.7) / float((within.T @ columns).norm())
    hardly = part * within + math.sqrt(1 - part**2) * off[:, :1] / off[:, :1].norm()
    others = torch.linalg.qr(torch.cat((hardly, torch.eye(240)), 1)).Q[:, 1:]
    assert (hardly.T @ columns).square().sum() == pytest.approx(1.7)
    for tail in (0.9, 0.01):
        values = torch.cat((torch.full((40,), 9.0), torch.linspace(tail, 0, 199)))
        moment = hardly @ hardly.T + (others * values) @ others.T
        found = leading._project(moment, others[:, :40])
        assert found.outside > 1


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_is_where_the_polynomial_of_lanczos_has_the_size_of_its_product(seed):
    generator = torch.Generator().manual_seed(seed)
    alphas, betas = torch.rand(2, 5, generator=generator).double()
    found = leading._largest_eigenvalue(alphas[:4], betas)
    before, here = 0.0, 1.0
    for alpha, beta in zip(alphas[:4], betas[:4], strict=True):
        before, here = here, (found - alpha) * here - beta.square() * before
    assert here**2 * leading._CHI2 == pytest.approx(betas.prod().square())
    of_low_rank = leading._largest_eigenvalue(alphas[:4], 0 * betas)
    assert of_low_rank == pytest.approx(float(alphas[:4].max()), rel=2e-3)


def test_random_columns_are_far_from_every_direction_once_in_10_to_the_15():
    assert chi2.cdf(leading._CHI2, leading._PROBES) < 1e-15
    assert chi2.cdf(1.001 * leading._CHI2, leading._PROBES) > 1e-15


def test_vectors_that_miss_a_leading_one_certify_nothing():
    # Ritz values alone cannot notice: the subspace of these vectors stays as it is.
    values = torch.cat((torch.tensor([2.0, 1.5]), torch.arange(1, 239) ** -3.0))
    moment, share = torch.diag(values), float(3.1 / values.sum())
    missing = torch.eye(240)[:, [0, *range(2, 40)]]
    part = leading._project(moment, moment @ missing)
    assert torch.linalg.eigvalsh(part.inner).flip(0)[:3].tolist() == [2, 1, 0.125]
    assert 1.5 <= part.outside < 1.51
    assert of_all(moment, share) == 2  # these would be 3
    found = counted(moment, share, missing)
    assert found.value in (None, 2)


def test_rows_of_a_geometry_are_counted_where_it_is_allowed_and_pays():
    x = torch.from_numpy(load_digits().data).float()[:700]
    wide = x @ torch.randn(64, 800, generator=torch.Generator().manual_seed(0))
    geometry, other = Geometry(wide), Geometry(wide)
    geometry.leading = Leading()
    for standardize in (False, True):
        for share in (0.9, 0.95):
            found = pca_dimension(geometry, share, standardize)
            assert found.value == pca_count(wide, share, standardize)
            assert found.computation == CERTIFIED
        assert pca_dimension(other, 0.9, standardize).computation is None
    assert geometry.known_spectrum is None
    assert torch.equal(geometry.leading.spectrum.eigenvalues, other.known_spectrum)
    assert pca_dimension(geometry, 1.0).value == pca_dimension(other, 1.0).value
    assert pca_dimension(geometry, 0.9).computation is None  # all are known now
    few = Geometry(wide[:500])
    few.leading = Leading()
    assert pca_dimension(few).computation is None


def test_a_count_that_was_large_is_not_tried_again(monkeypatch):
    tried, count = [], leading.leading_count
    monkeypatch.setattr(leading, "leading_count", lambda *a: tried.append(a[4]) or count(*a))
    x = torch.randn(600, 700, generator=torch.Generator().manual_seed(0))
    last, narrow = Leading(needs_all=True), x.clone()
    narrow[:, 10:] *= 0.01
    for rows, expected in ((x, []), (x, []), (narrow, []), (narrow, [9])):
        geometry = Geometry(rows)
        geometry.leading = last
        found = pca_dimension(geometry)
        assert found.value == pca_dimension(rows).value
        assert last.counts == {(0.9, False): found.value}
        assert tried == expected
        last = Leading(last.vectors, last.counts)
    assert found.computation == CERTIFIED


def test_one_product_more_spares_a_round_where_the_eigenvalues_fall_slowly(monkeypatch):
    of_rounds, count = [], leading.leading_count

    def counted_rounds(*a):
        found = count(*a)
        of_rounds.append((a[5], found.rounds))
        return found

    monkeypatch.setattr(leading, "leading_count", counted_rounds)
    generator = torch.Generator().manual_seed(0)
    x, step = (torch.randn(1000, 1000, generator=generator).double() for _ in range(2))
    last, noise = Leading(counts={(0.9, False): 72}), rounding_noise(torch.ones(1), 1000)
    for k in range(3):
        q = torch.linalg.qr(x + 0.3 * k * step).Q
        moment = (q * torch.arange(1, 1001) ** -1.4 @ q.T).float()
        moment = (moment + moment.T) / 2
        assert last.count(moment, 0.9, noise, False) == of_all(moment, 0.9) == 72
    assert of_rounds == [(True, 1), (False, 2), (True, 1)]


def test_constant_columns_come_and_go_between_counts():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(900, 700, generator=generator) * torch.arange(1, 701) ** -1.0
    start = Leading()
    for dead in (slice(0, 0), slice(3, 100), slice(50, 120)):
        rows = x.clone()
        rows[:, dead] = 0.5
        geometry = Geometry(rows)
        geometry.leading = Leading(start.vectors)
        assert pca_dimension(geometry).value == pca_dimension(rows).value
        start = geometry.leading
        assert start.vectors[False].shape[0] == 700


def test_a_failed_solver_leaves_the_count_to_all_eigenvalues(monkeypatch):
    def fail(matrix):
        raise LinAlgError("not converged")

    x = torch.randn(600, 600, generator=torch.Generator().manual_seed(0))
    x *= torch.arange(1, 601) ** -1.0
    geometry = Geometry(x)
    geometry.leading = Leading()
    monkeypatch.setattr(torch.linalg, "eigh", fail)
    found = pca_dimension(geometry)
    assert (found.value, found.computation) == (pca_dimension(x).value, None)
