"""CUDA gives what the CPU gives."""

import warnings

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import Geometry, get_estimator
from lightning_id.functional.registry import ESTIMATORS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

BALL = manifolds.ball(1000, 5, ambient=64)
CLOUDS = {
    "ball": BALL,
    "offset": BALL + 1000,
    "scale": BALL * 1e-25,
    "duplicates": torch.cat((BALL, BALL[:300])),
    "clumps": 1e-4 * BALL + torch.eye(10, 64)[torch.arange(1000) % 10],
    "wide": manifolds.ball(300, 5, ambient=9000) + 1,
    "half": BALL.half(),
    "bfloat16": BALL.bfloat16(),
    "double": BALL.double(),
    "constant": torch.ones(50, 8),
    "not finite": torch.full((50, 8), float("nan")),
}


@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("cloud", CLOUDS)
def test_estimates_agree_with_the_cpu(cloud, name, precision):
    x = CLOUDS[cloud]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = get_estimator(name)(Geometry(x.cuda()))
    finally:
        torch.set_float32_matmul_precision(before)
    expected = get_estimator(name)(Geometry(x))
    assert found.reason == expected.reason
    assert found.value == pytest.approx(expected.value, rel=1e-4, nan_ok=True)
    assert found.std_error == pytest.approx(expected.std_error, rel=1e-3, nan_ok=True)
    assert found.n_duplicates == expected.n_duplicates


@pytest.mark.parametrize("k", [2, 40])
@pytest.mark.parametrize("cloud", ["ball", "offset", "clumps", "duplicates", "half"])
def test_neighbors_agree_with_the_cpu(cloud, k):
    found = Geometry(CLOUDS[cloud].cuda()).neighbors(k)
    expected = Geometry(CLOUDS[cloud]).neighbors(k)
    assert found.distances.device.type == "cpu"
    torch.testing.assert_close(found.distances, expected.distances, rtol=1e-6, atol=0)


@pytest.mark.parametrize("cloud", ["ball", "wide", "bfloat16", "double"])
def test_ordinary_rows_wait_for_the_device_four_times(cloud):
    def run():
        geometry = Geometry(x)
        return [get_estimator(name)(geometry).value for name in ("twonn", "pca")]

    x = CLOUDS[cloud].cuda()
    run()  # libraries are loaded at the first call
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchroniz" in str(each.message) for each in caught) <= 4
