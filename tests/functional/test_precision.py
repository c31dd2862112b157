"""Full float32 arithmetic, whatever the user has set, and their settings afterwards."""

import warnings

import pytest
import torch

from lightning_id.functional.precision import exact_arithmetic

CPU = torch.device("cpu")


@pytest.fixture(params=["medium", "high", "highest"])
def setting(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


def test_products_equal_the_ones_of_float32_under_every_setting(setting):
    x = torch.randn(64, 300, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16), exact_arithmetic(CPU):
        found = x @ x.T
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), x.double() @ x.double().T, rtol=1e-5, atol=1e-4)


def test_the_settings_of_the_user_are_back_also_after_an_error(setting):
    with pytest.raises(RuntimeError), exact_arithmetic(CPU):
        torch.ones(2) @ torch.ones(3)
    assert torch.get_float32_matmul_precision() == setting
    assert torch.is_grad_enabled()


def test_no_warning_is_provoked(setting):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with exact_arithmetic(CPU):
            pass
