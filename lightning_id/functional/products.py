"""Products of rows with each other, a block of columns at a time and one triangle of two."""

from collections.abc import Iterator
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

BLOCK = 4096  # columns at a time: 32 MB at 2000 rows, and long enough for BLAS to run at full speed
TILES = 6  # bands of the triangle of a product: 7/12 of its work instead of all


def column_blocks(width: int) -> Iterator[slice]:
    """Cut columns into blocks.

    Args:
        width: How many columns there are.

    Yields:
        The blocks in order: all but the last of `block_width` columns.
    """
    for start in range(0, width, BLOCK):
        yield slice(start, min(start + BLOCK, width))


def block_width(width: int) -> int:
    """Return how many columns the widest block of so many has."""
    return min(BLOCK, width)


def add_triangle(
    out: Float[Tensor, "n n"], a: Float[Tensor, "n b"], *, first: bool
) -> Float[Tensor, "n n"]:
    """Add a aᵀ to the lower triangle of ``out``, or write it there, if first.

    In bands of rows: a symmetric product needs half the work of a general one, and torch has no
    call for it.

    Args:
        out: What to add to.
        a: One block of columns.
        first: Write instead of adding: ``out`` may hold anything.

    Returns:
        ``out``; its upper triangle is left as it was.
    """
    edges = [round(i * len(a) / TILES) for i in range(TILES + 1)]
    for low, high in pairwise(edges):
        out[low:high, :high].addmm_(a[low:high], a[:high].T, beta=0 if first else 1)
    return out


def mirror_triangle(out: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Write the lower triangle of ``out`` to the upper one.

    Args:
        out: A symmetric matrix, of which the lower triangle is known.

    Returns:
        ``out``.
    """
    edges = [round(i * len(out) / TILES) for i in range(TILES + 1)]
    for low, high in pairwise(edges):
        out[:low, low:high] = out[low:high, :low].T
    return out
