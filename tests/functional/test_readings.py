"""Numbers computed on a device, read together."""

import pytest
import torch

from lightning_id.functional.columns import Readings
from tests.pretended_cuda import OnDevice, Waits


def test_values_keep_their_shapes_and_become_float64():
    readings = Readings()
    readings.add(count=torch.tensor(7), table=torch.arange(6, dtype=torch.int32).view(2, 3))
    readings.add(share=torch.tensor([0.1], dtype=torch.float32), flags=torch.tensor([True, False]))
    assert readings["count"].item() == 7
    assert readings["count"].shape == ()
    assert readings["table"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert readings["share"].item() == torch.tensor(0.1).item()
    assert readings["flags"].tolist() == [1, 0]
    names = ("count", "table", "share", "flags")
    assert {readings[name].dtype for name in names} == {torch.float64}


def test_an_empty_tensor_is_read_among_others():
    readings = Readings()
    readings.add(none=torch.zeros(0, 3), one=torch.ones(1))
    assert readings["none"].shape == (0, 3)
    assert readings["one"].tolist() == [1]


def test_a_later_value_replaces_the_one_that_was_read():
    readings = Readings()
    readings.add(n=torch.tensor(1), other=torch.tensor(5))
    assert readings["n"] == 1
    readings.add(n=torch.tensor(2))
    assert readings["other"] == 5
    assert readings["n"] == 2


def test_all_that_waits_is_copied_at_once_and_once():
    readings, x = Readings(), torch.ones(3)
    with Waits() as waits:
        readings.add(a=OnDevice(x), b=OnDevice(x[:2]))
        assert waits.count == 0
        for name in "abab":
            assert bool((readings[name] == 1).all())
        assert waits.by_name == {"copy to the CPU": 1}
        readings.add(c=OnDevice(x))
        assert len(readings["b"]) == 2
        assert waits.count == 1  # b was read before
        assert len(readings["c"]) == 3
        assert waits.count == 2


def test_a_name_that_was_never_added_is_unknown():
    with pytest.raises(KeyError, match="spread"):
        Readings()["spread"]
