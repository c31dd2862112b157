"""Exact under everything: each row of the table against float64 brute force on the same rows."""

import math

import pytest
import torch
from naive import assert_agrees, assert_no_number, estimated, pca_count, twonn_linear, twonn_mle

from lightning_id import manifolds
from lightning_id.functional import (
    effective_rank,
    participation_ratio,
    pca_dimension,
    pca_spectrum,
    twonn_dimension,
)
from lightning_id.functional.registry import ESTIMATORS

N = 600
BALL = manifolds.ball(N, 5, ambient=64)
DENSE = manifolds.ball(2000, 5, ambient=64)  # too many rows for brute force in every test
CLEAN = twonn_linear(BALL)
LINEAR = {name for name, spec in ESTIMATORS.items() if spec.counts_repeats}
RATIOS = ("twonn", "gride", "mle")


def permuted(n):
    return torch.randperm(n, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("offset", [10.0, 100.0, 1000.0, 10000.0])
def test_an_offset_changes_nothing(offset):
    x = BALL + offset
    assert_agrees(twonn_dimension(x), twonn_linear(x))
    assert_agrees(twonn_dimension(x, "mle"), twonn_mle(x))
    assert_agrees(twonn_dimension(x), CLEAN, rel=1e-3)
    assert all(estimated(name, x).n_ties == 0 for name in RATIOS)
    assert float(pca_dimension(x)) == pca_count(x) == 5


@pytest.mark.parametrize(
    "scale", [1e-30, 1e-25, 1e-23, 3e-23, 1e-22, 3e-22, 1e-20, 1e-6, 1e-3, 1e6, 1e25]
)
def test_a_scale_changes_nothing_though_float32_squares_overflow_or_vanish(scale):
    x = BALL * scale
    assert_agrees(twonn_dimension(x), twonn_linear(x))
    assert_agrees(twonn_dimension(x), CLEAN, rel=1e-3)
    assert float(pca_dimension(x)) == 5
    assert_agrees(participation_ratio(x), float(participation_ratio(BALL)))
    assert_agrees(effective_rank(x), float(effective_rank(BALL)))


def test_a_few_coordinates_10000_times_larger_than_the_rest():
    x = BALL.clone()
    x[:, :3] *= 1e4
    assert_agrees(twonn_dimension(x), twonn_linear(x))
    assert float(pca_dimension(x)) == pca_count(x)


def test_clusters_a_ten_thousandth_wide_and_1_apart():
    centres = torch.eye(10, 64)[permuted(N) % 10]
    x = centres / math.sqrt(2) + 1e-4 * BALL
    assert_agrees(twonn_dimension(x), twonn_linear(x))
    assert_agrees(twonn_dimension(x, "mle"), twonn_mle(x))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("copies", [1, 2], ids=["pairs", "triplets"])
def test_repeated_rows_are_left_out_and_counted(share, copies):
    n_repeated = int(share * N)
    x = torch.cat((BALL, *[BALL[:n_repeated]] * copies))[permuted(N + copies * n_repeated)]
    estimate = twonn_dimension(x)
    assert_agrees(estimate, CLEAN)
    assert estimate.n_duplicates == copies * n_repeated
    assert estimate.n_samples == N + copies * n_repeated
    assert estimate.n_used == N


def test_half_of_the_rows_exactly_zero():
    x = torch.cat((BALL, torch.zeros(N, 64), -torch.zeros(1, 64)))[permuted(2 * N + 1)]
    estimate = twonn_dimension(x)
    assert_agrees(estimate, twonn_linear(x))
    assert estimate.n_duplicates == N  # zero itself is one of the distinct rows


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_rows_give_a_reason(name, n):
    assert_no_number(estimated(name, BALL[:n]), f"expected at least 3 rows, got {n}")


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_without_finite_values_give_a_reason(name, bad):
    x = BALL[:100].clone()
    x[3, 7], x[50, 1] = bad, bad
    assert_no_number(estimated(name, x), "2 of 100 rows hold NaN or infinite values")


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - LINEAR))
@pytest.mark.parametrize(
    "rows", [torch.ones(50, 4), torch.eye(4)[torch.arange(50) % 2]], ids=["equal", "two kinds"]
)
def test_fewer_than_three_distinct_rows_give_a_reason(name, rows):
    estimate = estimated(name, rows)
    assert estimate.reason, f"if {name} counts repeated rows, its EstimatorSpec has counts_repeats"
    assert_no_number(estimate, "distinct rows")


@pytest.mark.parametrize("name", ["pca", "participation_ratio", "effective_rank"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e30])
@pytest.mark.parametrize("shape", [(50, 4), (20, 60)])
@pytest.mark.parametrize("standardize", [False, True])
def test_a_constant_cloud_has_no_linear_dimension(name, value, shape, standardize):
    estimate = ESTIMATORS[name](torch.full(shape, value), standardize=standardize)
    assert float(estimate) == 0
    assert estimate.reason is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x = DENSE.to(dtype)
    estimate = twonn_dimension(x)
    assert_agrees(estimate, twonn_linear(x))
    assert estimate.dtype == str(dtype).removeprefix("torch.")
    assert estimate.note is None
    assert float(pca_dimension(x)) == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", RATIOS)
def test_a_few_outlying_rows_leave_the_others_their_ratios(name, dtype):
    x = DENSE.clone()
    x[:6] *= 1000
    estimate = estimated(name, x.to(dtype))
    clean = estimated(name, DENSE.to(dtype))
    assert estimate.n_ties <= clean.n_ties
    assert_agrees(estimate, clean.value, rel=1e-2)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_columns_without_variance_change_nothing(value, share):
    n_dead = round(share * 200)
    x = torch.full((300, 200), value)
    alive = permuted(200)[n_dead:]
    x[:, alive] = manifolds.gaussian(300, 200 - n_dead).relu()
    for standardize in (False, True):
        found = pca_spectrum(x, standardize).eigenvalues
        expected = pca_spectrum(x[:, alive], standardize).eigenvalues
        torch.testing.assert_close(found[: len(alive)], expected, rtol=1e-4, atol=1e-6)
        assert found[len(alive) :].eq(0).all()
        assert len(found) == 200
        assert_agrees(pca_dimension(x, 0.9, standardize), pca_count(x[:, alive], 0.9, standardize))
    for name in LINEAR:
        assert_agrees(estimated(name, x), float(estimated(name, x[:, alive])))


def test_a_solver_that_fails_is_tried_in_float64_and_gives_a_reason_if_that_fails(monkeypatch):
    solve, fails = torch.linalg.eigvalsh, {torch.float32}

    def failing(matrix):
        if matrix.dtype in fails:
            raise torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")
        return solve(matrix)

    expected = {name: float(estimated(name, BALL)) for name in LINEAR}
    monkeypatch.setattr(torch.linalg, "eigvalsh", failing)
    for name in LINEAR:
        assert_agrees(estimated(name, BALL), expected[name])
    fails.add(torch.float64)
    for name in LINEAR - {"participation_ratio"}:
        assert_no_number(estimated(name, BALL), "eigenvalues of the covariance did not")


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e-100, 1e100, 1e170, 1e300])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_float64_rows_whose_squares_leave_float64_give_a_reason(name, scale):
    assert_no_number(estimated(name, BALL[:100].double() * scale), "leave float64")


@pytest.mark.parametrize("scale", [1e-50, 1e50])
def test_float64_rows_keep_their_range(scale):
    x = BALL[:500].double() * scale
    assert_agrees(twonn_dimension(x), twonn_linear(BALL[:500].double()), rel=1e-9)
    assert_agrees(participation_ratio(x), float(participation_ratio(BALL[:500].double())))


def test_float64_rows_too_near_for_squares_are_counted_as_ties():
    x = BALL[:500].double()
    near = x[:20].clone()
    x[:20, 0], near[:20, 0] = 0.0, 1e-200
    for name in ("twonn", "gride", "mle"):
        estimate = estimated(name, torch.cat((x, near)))
        assert math.isfinite(estimate.value)
        assert estimate.n_ties >= 40  # and rows to which both of such a pair are nearest
        assert estimate.n_duplicates == 0


def test_float64_rows_are_computed_in_float64():
    x = BALL[:500].double() + 1e6  # float32 would keep no more than the first digit
    assert_agrees(twonn_dimension(x), twonn_linear(BALL[:500]), rel=1e-6)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5), r"expected shape \(n, d\), got \(5,\)"),
        (torch.zeros(5, 2, 3), r"expected shape \(n, d\), got \(5, 2, 3\)"),
        (torch.zeros(5, 0), "expected at least one column"),
        (torch.zeros(5, 2, dtype=torch.int64), "expected a floating dtype, got torch.int64"),
        (torch.zeros(5, 2, dtype=torch.complex64), "expected a floating dtype"),
        (torch.zeros(5, 2, dtype=torch.bool), "expected a floating dtype"),
        (torch.zeros(5, 2).to_sparse(), "expected a dense tensor"),
    ],
)
def test_what_is_no_cloud_is_refused(name, x, message):
    with pytest.raises(ValueError, match=message):
        ESTIMATORS[name](x)


def test_rows_that_require_grad_and_rows_that_are_not_contiguous_are_handled():
    expected = float(twonn_dimension(BALL))
    trained = BALL.clone().requires_grad_()
    assert float(twonn_dimension(trained)) == expected
    assert trained.grad is None
    wide = torch.zeros(N, 128)
    wide[:, ::2] = BALL
    assert float(twonn_dimension(wide[:, ::2])) == pytest.approx(expected, rel=1e-9)
    assert float(twonn_dimension(BALL.T.contiguous().T)) == pytest.approx(expected, rel=1e-9)
    assert float(twonn_dimension(BALL[:1].expand(N, 64) + 0)) != expected
    assert_no_number(twonn_dimension(BALL[:1].expand(N, 64)), f"got 1 (of {N}; {N - 1} repeat")


def test_rows_are_left_as_they_were():
    x = BALL.clone()
    for name in ESTIMATORS:
        estimated(name, x)
    assert torch.equal(x, BALL)


def test_the_check_helpers_fail_where_they_should():
    estimate = twonn_dimension(BALL)
    with pytest.raises(AssertionError):
        assert_agrees(estimate, CLEAN * 1.001)
    with pytest.raises(AssertionError):
        assert_no_number(estimate, "")
