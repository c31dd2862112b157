"""Equal rows: found exactly, whatever the dtype, and only the first of a kind is kept."""

import pytest
import torch

from lightning_id.functional import Geometry, duplicates
from lightning_id.functional.duplicates import repeats_an_earlier_row

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def repeats_naively(x):
    seen = set()
    return torch.tensor(
        [
            tuple(row) in seen or seen.add(tuple(row)) is not None
            for row in (x.double() + 0.0).tolist()
        ]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 3, 5000])
def test_repeats_are_as_in_a_set_of_rows(dtype, columns):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, columns, generator=generator).to(dtype)
    x = x[torch.randint(40, (100,), generator=generator)]
    expected = repeats_naively(x)
    assert 40 < int(expected.sum()) < 100
    assert torch.equal(repeats_an_earlier_row(x), expected)


def test_minus_zero_equals_zero():
    assert repeats_an_earlier_row(torch.tensor([[0.0, 1.0], [-0.0, 1.0]])).tolist() == [False, True]


def test_rows_that_differ_in_one_bit_are_two():
    x = torch.ones(2, 300)
    x[1, 299] = torch.nextafter(x[1, 299], torch.tensor(2.0))
    assert repeats_an_earlier_row(x).tolist() == [False, False]


def test_colliding_hashes_change_nothing(monkeypatch):
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))[torch.arange(60) % 30]
    monkeypatch.setattr(
        duplicates, "row_hashes", lambda x, rank: torch.zeros(len(x), dtype=torch.int64)
    )
    assert torch.equal(repeats_an_earlier_row(x), repeats_naively(x))


def test_columns_in_any_order_of_memory_hash_alike():
    x = torch.randn(30, 64, generator=torch.Generator().manual_seed(0))[torch.arange(60) % 30]
    assert torch.equal(repeats_an_earlier_row(x.T.contiguous().T), repeats_naively(x))


def test_a_geometry_keeps_the_first_of_a_kind():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [5.0, 6.0], [3.0, 4.0]])
    geometry = Geometry(x)
    assert geometry.distinct.tolist() == [0, 1, 3]
    assert geometry.n_duplicates == 2


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_repeats_are_found_though_products_leave_no_distance_at_zero(offset):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(499, 701, generator=generator) + offset)[torch.arange(997) % 499]
    centred = x - x.mean(0)
    norm2, gram = centred.square().sum(1), centred @ centred.T
    assert (norm2[:498] + norm2[499:] - 2 * gram.diagonal(499) != 0).any()
    assert Geometry(x).n_duplicates == 498
