"""Nothing global is changed, and nothing global changes a number."""

import contextlib

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import Geometry, effective_rank, get_estimator
from lightning_id.functional.precision import exact_arithmetic
from lightning_id.functional.registry import ESTIMATORS

X = manifolds.ball(400, 5, ambient=300)[torch.arange(410) % 400] + 10
WIDE = manifolds.ball(100, 5, ambient=300) + 10
PER_BACKEND = hasattr(torch.backends.mkldnn, "matmul")


def numbers():
    return [
        get_estimator(name)(Geometry(x)).to_dict() for name in sorted(ESTIMATORS) for x in (X, WIDE)
    ]


def settings():
    state = {
        "rng": torch.random.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "flush": torch.tensor(1e-40).mul(1).item(),
    }
    if PER_BACKEND:
        state["cuda"] = torch.backends.cuda.matmul.fp32_precision
        state["mkldnn"] = torch.backends.mkldnn.matmul.fp32_precision
    with contextlib.suppress(RuntimeError):  # the old getter refuses where both ways were used
        state["matmul"] = torch.get_float32_matmul_precision()
    return state


@pytest.fixture(scope="module")
def expected():
    return numbers()


@pytest.fixture(autouse=True)
def restored():
    """Put the settings of matrix products back, whatever a test does to them."""
    if not PER_BACKEND:
        before = torch.get_float32_matmul_precision()
        yield
        torch.set_float32_matmul_precision(before)
        return
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    yield
    torch.set_float32_matmul_precision("highest")
    for backend, precision in zip(backends, before, strict=True):
        backend.fp32_precision = precision


def assert_no_change(expected):
    before = settings()
    found = numbers()
    assert settings() == before
    for one, other in zip(found, expected, strict=True):
        assert repr(one) == repr(other)  # repr: NaN equals NaN


def test_as_it_is(expected):
    assert_no_change(expected)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_matmul_precision_by_the_old_setting(expected, precision):
    torch.set_float32_matmul_precision(precision)
    assert_no_change(expected)
    assert torch.get_float32_matmul_precision() == precision


@pytest.mark.skipif(not PER_BACKEND, reason="torch before 2.9 has no setting per backend")
@pytest.mark.parametrize("mkldnn", ["none", "ieee", "tf32", "bf16"])
@pytest.mark.parametrize("cuda", ["none", "ieee", "tf32"])
def test_matmul_precision_by_the_new_settings(expected, cuda, mkldnn):
    torch.backends.cuda.matmul.fp32_precision = cuda
    torch.backends.mkldnn.matmul.fp32_precision = mkldnn
    assert_no_change(expected)


@pytest.mark.skipif(not PER_BACKEND, reason="torch before 2.9 has no setting per backend")
def test_matmul_precision_by_both_settings_mixed(expected):
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.matmul.fp32_precision = "tf32"
    assert_no_change(expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(expected, dtype):
    with torch.autocast("cpu", dtype=dtype):
        assert_no_change(expected)
        assert (X[:2] @ X[:2].T).dtype == dtype  # and is on again after it


def test_inference_mode(expected):
    with torch.inference_mode():
        assert_no_change(expected)


def test_no_grad_and_rows_that_require_grad(expected):
    with torch.no_grad():
        assert_no_change(expected)
    rows = X.clone().requires_grad_()
    assert not any(value.requires_grad for value in vars(_used(rows)).values() if _is_tensor(value))


def test_geometry_made_in_inference_mode_serves_outside():
    with torch.inference_mode():
        geometry = _used(X * 1)
    assert effective_rank(geometry).value == effective_rank(X).value
    assert geometry.neighbors(20).distances.shape == (400, 20)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_default_dtype(expected, dtype):
    torch.set_default_dtype(dtype)
    try:
        assert_no_change(expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_default_device(expected):
    torch.set_default_device("meta")
    try:
        found = numbers()
    finally:
        torch.set_default_device(None)
    assert repr(found) == repr(expected)


def test_deterministic_algorithms(expected):
    torch.use_deterministic_algorithms(True)
    try:
        assert_no_change(expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_settings_come_back_after_an_exception():
    torch.set_float32_matmul_precision("medium")
    before = settings()
    with contextlib.suppress(ZeroDivisionError), exact_arithmetic(torch.device("cpu")):
        assert settings() != before
        1 / 0  # noqa: B018
    assert settings() == before


def _used(x):
    geometry = Geometry(x)
    for name in sorted(ESTIMATORS):
        get_estimator(name)(geometry)
    return geometry


def _is_tensor(value):
    return isinstance(value, torch.Tensor)
