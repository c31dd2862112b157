"""Eigenvalues of a second moment, with rows of zeros left out of the solver."""

import torch

from lightning_id.functional.eigenvalues import eigenvalues


def test_all_eigenvalues_are_returned_largest_first():
    values = torch.tensor([3.0, 0.5, 7.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    found = eigenvalues(turn @ values.diag() @ turn.T)
    torch.testing.assert_close(found, values.sort(descending=True).values)


def test_rows_of_zeros_that_are_left_out_have_the_eigenvalue_zero():
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moment = torch.zeros(7, 7, dtype=torch.float64)
    alive = torch.tensor([0, 2, 3, 6])
    moment[alive[:, None], alive] = x.T @ x
    found = eigenvalues(moment, alive)
    torch.testing.assert_close(found, eigenvalues(moment), rtol=1e-12, atol=1e-12)
    assert found[4:].eq(0).all()


def test_negative_eigenvalues_keep_their_place_behind_the_zero_rows():
    moment = torch.diag(torch.tensor([2.0, 0.0, -1.0]))
    assert eigenvalues(moment, torch.tensor([0, 2])).tolist() == [2, 0, -1]
