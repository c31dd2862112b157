"""Which samples are measured: chosen once, uniformly, the same at every validation."""

import heapq
from collections.abc import Sized
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler
from torch.utils.data.distributed import DistributedSampler

SHUFFLED = "the loader shuffles: other samples at every validation"
STREAM = "a stream of unknown length: samples chosen by a reservoir"


def samples_of(
    loader: object, n_batches: int | float, n_samples: int, seed: int | None
) -> "FixedSamples | ReservoirSamples":
    """Choose the samples of one pass over a loader.

    Args:
        loader: What the samples come from.
        n_batches: Batches that are taken from it; infinity for all.
        n_samples: How many to choose.
        seed: See `choose_samples`.

    Returns:
        The choice; its ``note`` says what a reader of the numbers must know of it.
    """
    size = pass_size(loader, n_batches)
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, DistributedSampler):
        return _share(sampler, size, n_samples, seed)
    if size is None:
        return ReservoirSamples(n_samples, seed)
    note = SHUFFLED if isinstance(sampler, RandomSampler) else None
    positions = choose_samples(size, n_samples, seed)
    return FixedSamples(positions, draw(len(positions), seed), note)


def _share(
    sampler: DistributedSampler[Any], size: int | None, n_samples: int, seed: int | None
) -> "FixedSamples":
    """Choose out of the whole data set, alike in all processes, and keep what comes by in this one.

    Process r of w meets samples r, r + w, ... and, so that all meet as many, some of the first ones
    again at the end: those are never chosen.

    Returns:
        The choice of this process; it may be empty.
    """
    world = sampler.num_replicas
    met = len(sampler) if size is None else size
    everywhere = min(len(sampler.dataset), met * world)  # type: ignore[arg-type]
    positions = choose_samples(everywhere, n_samples, seed)
    mine = positions % world == sampler.rank
    note = SHUFFLED if sampler.shuffle else None
    return FixedSamples(positions[mine] // world, draw(len(positions), seed)[mine], note)


def choose_samples(size: int, n_samples: int, seed: int | None) -> Int[Tensor, " k"]:
    """Choose samples out of a data set, uniformly, without the global random numbers.

    Args:
        size: Samples there are.
        n_samples: How many to choose; all if there are fewer.
        seed: Seed of a private generator; None takes the first ones, as the source work did.

    Returns:
        Positions in the data set, ascending.

    Example:
        >>> choose_samples(10, 3, seed=0).tolist()
        [1, 4, 7]
        >>> choose_samples(10, 3, seed=None).tolist()
        [0, 1, 2]
    """
    if seed is None:
        return torch.arange(min(size, n_samples))
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(size, generator=generator)[:n_samples].sort().values


def draw(n_samples: int, seed: int | None) -> Float[Tensor, " n"]:
    """Draw a number in [0, 1) for each sample, the same for a seed, from a private generator."""
    generator = torch.Generator().manual_seed(0 if seed is None else seed)
    return torch.rand(n_samples, generator=generator)


class FixedSamples:
    """The chosen samples of a data set of known size, met batch by batch in its order.

    Args:
        positions: Positions in one pass, ascending: see `choose_samples`.
        draws: A number in [0, 1) for each, see `draw`.
        note: What a reader of the numbers must know of the choice.
    """

    def __init__(
        self,
        positions: Int[Tensor, " k"],
        draws: Float[Tensor, " k"],
        note: str | None = None,
    ) -> None:
        self.note = note
        self.positions = positions
        self.draws = draws
        self.n_samples = len(positions)
        self._seen = 0

    def take(self, batch_size: int) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
        """Return the chosen rows of the next batch.

        Args:
            batch_size: Samples in the batch.

        Returns:
            Rows of the batch, and the slot of each among the chosen.
        """
        edges = torch.tensor([self._seen, self._seen + batch_size])
        low, high = torch.searchsorted(self.positions, edges).tolist()
        rows = self.positions[low:high] - self._seen
        self._seen += batch_size
        return rows, torch.arange(low, high)


class ReservoirSamples:
    """A uniform choice out of a stream of unknown length: the rows of smallest random key.

    The keys come from a private generator, one per sample in the order of the stream, so that every
    pass over the same stream ends with the same samples. Rows that drop out are overwritten.

    Args:
        n_samples: How many to keep at the most.
        seed: Seed of the private generator; None keeps the first ones.
    """

    note = STREAM

    def __init__(self, n_samples: int, seed: int | None) -> None:
        self.n_samples = n_samples
        self.draws = draw(n_samples, seed)
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._kept: list[tuple[float, int]] = []  # (-key, slot): the largest key on top
        self._seen = 0

    def take(self, batch_size: int) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
        """Return the rows of the next batch that are among the chosen so far.

        Args:
            batch_size: Samples in the batch.

        Returns:
            Rows of the batch, and the slot of each, which it takes over if it was used.
        """
        placed: dict[int, int] = {}  # slot -> row: a row may be pushed out by its own batch
        for row, key in enumerate(self._keys(batch_size)):
            if len(self._kept) < self.n_samples:
                slot = len(self._kept)
                heapq.heappush(self._kept, (-key, slot))
            elif key < -self._kept[0][0]:
                slot = self._kept[0][1]
                heapq.heapreplace(self._kept, (-key, slot))
            else:
                continue
            placed[slot] = row
        return torch.tensor(list(placed.values()), dtype=torch.long), torch.tensor(
            list(placed), dtype=torch.long
        )

    def _keys(self, n: int) -> list[float]:
        self._seen += n
        if self._generator is None:
            return [float(position) for position in range(self._seen - n, self._seen)]
        keys: list[float] = torch.rand(n, generator=self._generator, dtype=torch.float64).tolist()
        return keys


def pass_size(loader: object, n_batches: int | float) -> int | None:
    """Return how many samples one pass over a loader meets, if that can be told beforehand.

    Args:
        loader: What the samples come from.
        n_batches: Batches that are taken from it; infinity for all.

    Returns:
        The number, or None for a stream, an unknown kind of loader or batches of unequal size.
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    batches = loader.batch_sampler
    if type(batches) is not BatchSampler or not isinstance(batches.sampler, Sized):
        return None
    size, batch_size = len(batches.sampler), batches.batch_size
    if batches.drop_last:
        size -= size % batch_size
    return int(min(size, n_batches * batch_size))
