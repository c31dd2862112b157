"""Random projections of wide rows, the same for every batch and on all ranks; exact sums."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

FITTING = 4096  # features to which rows are projected that do not fit into memory
SKETCHES = 4  # of a projection: sums of its own each, so that no few large features decide
_CHUNK = 2**22  # numbers that are projected at a time: a few copies of them are made


class RandomProjection:
    """A seeded random projection of wide rows.

    Four sketches side by side: each permutes the features, flips random signs, and adds up runs of
    neighbours. Squared distances are kept on average, with a relative deviation of about
    sqrt(2 / m) for m features: 2 % at 4096. No matrix is made, and the order of the sums is fixed.

    Source: count sketch (Charikar, Chen & Farach-Colton 2002) as a sparse Johnson-Lindenstrauss
    transform (Kane & Nelson 2014).

    Args:
        n_features: Features of a row.
        max_features: Features it is projected to, a multiple of four or rounded down to one.
        seed: Seed of a private generator.

    Example:
        >>> x = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
        >>> RandomProjection(1000, 64, seed=0)(x).shape
        torch.Size([3, 64])
    """

    def __init__(self, n_features: int, max_features: int, seed: int) -> None:
        self._buckets = max_features // SKETCHES
        self._run = math.ceil(n_features / self._buckets)
        self._padding = self._run * self._buckets - n_features
        generator = torch.Generator().manual_seed(seed)
        self._sketches = [
            (
                torch.randperm(n_features, generator=generator),
                torch.randint(2, (n_features,), generator=generator, dtype=torch.int8) * 2 - 1,
            )
            for _ in range(SKETCHES)
        ]

    def __call__(self, rows: Float[Tensor, "r d"]) -> Float[Tensor, "r m"]:
        """Project rows of any floating dtype to float32, or to float64 if they are."""
        n = max(1, _CHUNK // rows.shape[1])
        return torch.cat([self._project(part) for part in torch.split(rows, n)])

    def _project(self, rows: Float[Tensor, "r d"]) -> Float[Tensor, "r m"]:
        parts = []
        for order, signs in self._sketches:
            mixed = rows.index_select(1, order.to(rows.device)) * signs.to(rows)
            mixed = torch.nn.functional.pad(mixed, (0, self._padding))
            runs = mixed.view(len(rows), self._buckets, self._run).transpose(1, 2)
            parts.append(sums(runs, math.sqrt(SKETCHES)))
        return torch.cat(parts, dim=1)


def sums(x: Float[Tensor, "r t d"], divisor: Tensor | float | int) -> Float[Tensor, "r d"]:
    """Return sums over axis 1 over a number, or one for each row (r, 1); float32 or wider.

    Summed in float64 and rounded once: float32 sums depend on the order and the number of their
    terms, so rows that are equal up to the order of their tokens would differ by roundings, and be
    nearest neighbours.
    """
    out = x.new_empty(
        (len(x), x.shape[2]), dtype=x.dtype if x.element_size() > 2 else torch.float32
    )
    # In float64 the terms take twice the memory: some rows at a time.
    chunk = max(1, (2**20 if x.device.type == "cpu" else 2**26) // max(1, x[:1].numel()))
    for start in range(0, len(x), chunk):
        some = slice(start, start + chunk)
        terms, by = x[some], divisor[some] if isinstance(divisor, Tensor) else divisor
        if x.device.type == "mps":  # has no float64
            terms, by = terms.cpu(), by.cpu() if isinstance(by, Tensor) else by
        out[some] = (terms.double().sum(1) / by).to(out)
    return out
