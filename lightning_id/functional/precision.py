"""Full float32 arithmetic inside a ``with`` block, whatever the user has set."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Switch gradients, autocast and reduced-precision matrix products off, then restore them.

    ``torch.set_float32_matmul_precision("medium")`` lets float32 products run in bfloat16, on the
    CPU too, and ``"high"`` in TF32: both keep 8 to 11 bits, and neighbours are lost. Lightning
    advises its users to set one of them.
    """
    before = _matmul_precision()
    _set_matmul_precision(dict.fromkeys(before, _EXACT))
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        _set_matmul_precision(before)


# torch 2.9 has a setting per backend, and its older getter raises once both have been used: it is
# called only where there is no other.
_MKLDNN: Any = torch.backends.mkldnn
_PER_BACKEND = hasattr(_MKLDNN, "matmul")
_EXACT = "ieee" if _PER_BACKEND else "highest"


def _matmul_precision() -> dict[str, str]:
    if _PER_BACKEND:
        return {
            "cuda": torch.backends.cuda.matmul.fp32_precision,
            "mkldnn": _MKLDNN.matmul.fp32_precision,
        }
    return {"all": torch.get_float32_matmul_precision()}


def _set_matmul_precision(precision: dict[str, str]) -> None:
    if precision == _matmul_precision():
        return
    if _PER_BACKEND:
        torch.backends.cuda.matmul.fp32_precision = precision["cuda"]
        _MKLDNN.matmul.fp32_precision = precision["mkldnn"]
    else:
        torch.set_float32_matmul_precision(precision["all"])
