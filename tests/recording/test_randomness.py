import random

import numpy as np
import pytest
import torch

from lightning_id.recording.passes import kept_rng


def draw():
    return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002 the global ones


def states():
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002


def test_the_three_global_generators_are_as_before():
    before = states()
    with kept_rng():
        draw()
    assert states() == before


def test_an_exception_restores_them_too_and_is_raised():
    before = states()
    with pytest.raises(ZeroDivisionError), kept_rng():
        draw()[0] / 0
    assert states() == before
