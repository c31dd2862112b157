import pytest
import torch

from lightning_id.batches import batch_length


def test_the_length_of_a_batch_is_that_of_its_first_tensor():
    assert batch_length([torch.zeros(7, 2), torch.zeros(7)]) == 7
    assert batch_length({"name": "x", "inner": ({"x": torch.zeros(3)},)}) == 3
    with pytest.raises(ValueError, match="a batch with a tensor"):
        batch_length({"name": "x"})
