"""Products of rows with each other: by triangle and by blocks of columns."""

import pytest
import torch

from lightning_id.functional.products import (
    BLOCK,
    add_triangle,
    block_width,
    column_blocks,
    mirror_triangle,
)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 50])
def test_a_triangle_that_is_mirrored_is_the_whole_product(n):
    a = torch.randn(n, 9, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    out = torch.full((n, n), torch.nan, dtype=torch.float64)
    add_triangle(out, a[:, :4], first=True)  # whatever was there is written over
    add_triangle(out, a[:, 4:], first=False)
    torch.testing.assert_close(out.tril(), (a @ a.T).tril())
    torch.testing.assert_close(mirror_triangle(out), a @ a.T)


@pytest.mark.parametrize("width", [0, 1, BLOCK, BLOCK + 1, 3 * BLOCK - 1])
def test_blocks_hold_every_column_once_in_order(width):
    columns = torch.arange(width)
    blocks = [columns[block] for block in column_blocks(width)]
    assert torch.equal(torch.cat([*blocks, columns[:0]]), columns)
    assert max(map(len, blocks), default=0) == block_width(width)
