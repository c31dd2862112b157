"""Products of rows with each other, a block of columns at a time and one triangle of two."""

from collections.abc import Iterator
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

BLOCK = 4096  # columns at a time: 32 MB at 2000 rows, and long enough for BLAS to run at full speed
TILES = 6  # bands of the triangle of a product: 7/12 of its work instead of all


def column_blocks(width: int) -> Iterator[slice]:
    """Yield the blocks of so many columns, in order."""
    for start in range(0, width, BLOCK):
        yield slice(start, min(start + BLOCK, width))


def block_width(width: int) -> int:
    """Return the width of the widest block of so many columns."""
    return min(BLOCK, width)


def add_triangle(
    out: Float[Tensor, "n n"], a: Float[Tensor, "n b"], *, first: bool
) -> Float[Tensor, "n n"]:
    """Add a aᵀ to the lower triangle of ``out``, or write it there if first; return ``out``."""
    # In bands of rows: a symmetric product needs half the work of a general one, and torch has no
    # call for it.
    edges = [round(i * len(a) / TILES) for i in range(TILES + 1)]
    for low, high in pairwise(edges):
        out[low:high, :high].addmm_(a[low:high], a[:high].T, beta=0 if first else 1)
    return out


def mirror_triangle(out: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Copy the lower triangle of ``out`` to the upper one; return ``out``."""
    edges = [round(i * len(out) / TILES) for i in range(TILES + 1)]
    for low, high in pairwise(edges):
        out[:low, low:high] = out[low:high, :low].T
    return out
