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
UNSIZED = "batches of unknown sizes: samples chosen by a reservoir"


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
        met = len(sampler) if size is None else size
        chosen = _share(sampler, met, n_samples, seed)
    elif size is not None:
        positions = choose_samples(size, n_samples, seed)
        chosen = FixedSamples(positions, uniform_draws(len(positions), seed))
    else:
        return ReservoirSamples(n_samples, seed, why_unsized(loader))
    if isinstance(sampler, RandomSampler) or _is_shuffled_share(sampler):
        chosen.note = SHUFFLED
    if size is not None:
        batch_size = loader.batch_sampler.batch_size  # type: ignore[attr-defined]  # see `pass_size`
        chosen.expect(size, batch_size, ReservoirSamples(n_samples, seed, chosen.note or UNSIZED))
    return chosen


def _is_shuffled_share(sampler: object) -> bool:
    return isinstance(sampler, DistributedSampler) and sampler.shuffle


def why_unsized(loader: object) -> str:
    """Return the note on a loader of which the number of samples is not known beforehand."""
    is_stream = isinstance(getattr(loader, "dataset", None), IterableDataset)
    return STREAM if is_stream else UNSIZED


def _share(
    sampler: DistributedSampler[Any], met: int, n_samples: int, seed: int | None
) -> "FixedSamples":
    """Choose out of the whole data set, alike in all processes, and keep what comes by in this one.

    Process r of w meets samples r, r + w, ... and, so that all meet as many, some of the first ones
    again at the end: those are never chosen.

    Returns:
        The choice of this process; it may be empty.
    """
    world = sampler.num_replicas
    everywhere = min(len(sampler.dataset), met * world)  # type: ignore[arg-type]
    positions = choose_samples(everywhere, n_samples, seed)
    mine = positions % world == sampler.rank
    chosen = FixedSamples(positions[mine] // world, uniform_draws(len(positions), seed)[mine])
    chosen.equal_share = -(-len(positions) // world)
    return chosen


def choose_samples(size: int, n_samples: int, seed: int | None) -> Int[Tensor, " k"]:
    """Choose samples out of a data set, uniformly, without the global random numbers.

    Args:
        size: Samples there are.
        n_samples: How many to choose; all if there are fewer.
        seed: Seed of a private generator; None takes the first ones, as Ansuini et al. (2019) did.

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


def uniform_draws(n_samples: int, seed: int | None) -> Float[Tensor, " n"]:
    """Draw a number in [0, 1) for each sample, the same for a seed, from a private generator."""
    generator = torch.Generator().manual_seed(0 if seed is None else seed)
    return torch.rand(n_samples, generator=generator)


class FixedSamples:
    """The chosen samples of a data set of known size, met batch by batch in its order.

    Args:
        positions: Positions in one pass, ascending: see `choose_samples`.
        draws: A number in [0, 1) for each, see `uniform_draws`.

    Attributes:
        note: Caveat for a reader of the numbers, or None.
        n_asked: How many were to be chosen, from data that may have fewer.
        otherwise: The choice to make if the batches are of other sizes than `expect` was given.
        equal_share: Samples of each rank if all have as many: one number for all ranks.
    """

    def __init__(self, positions: Int[Tensor, " k"], draws: Float[Tensor, " k"]) -> None:
        self.note: str | None = None
        self.otherwise: ReservoirSamples | None = None
        self.positions = positions
        self.draws = draws
        self.n_samples = self.n_asked = self.equal_share = len(positions)
        self._batch_size: int | None = None
        self._left = 0  # samples that will be asked of the data set
        self._seen = 0

    def expect(self, size: int, batch_size: int, otherwise: "ReservoirSamples") -> None:
        """Set how many samples the pass and a full batch have, and what to do if they have not."""
        self._left, self._batch_size, self.otherwise = size, batch_size, otherwise
        self.n_asked = otherwise.n_samples

    @property
    def next_size(self) -> int | None:
        """How many samples were asked of the data set for the next batch; None if not known."""
        return None if self._batch_size is None else min(self._left, self._batch_size)

    def next_batch(self, batch_size: int) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
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
        self._left -= self.next_size or 0
        return rows, torch.arange(low, high)


class ReservoirSamples:
    """A uniform choice out of samples of unknown number: the rows of smallest random key.

    The keys come from a private generator, one per sample in the order of the stream, so that every
    pass over the same stream ends with the same samples. Rows that drop out are overwritten.

    Args:
        n_samples: How many to keep at the most.
        seed: Seed of the private generator; None keeps the first ones.
        note: Why the samples are not chosen beforehand.
    """

    next_size = otherwise = None

    def __init__(self, n_samples: int, seed: int | None, note: str | None = UNSIZED) -> None:
        self.note = note
        self.n_samples = self.n_asked = self.equal_share = n_samples
        self.draws = uniform_draws(n_samples, seed)
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._kept: list[tuple[float, int]] = []  # (-key, slot): the largest key on top
        self._seen = 0

    def next_batch(self, batch_size: int) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
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
