"""Which samples, and tokens, are measured: chosen once, uniformly, the same at every validation."""

import heapq
from collections.abc import Iterable, Sized

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from lightning_id.recording.rule import RowRule

SHUFFLED = "the loader shuffles: other samples at every validation"
STREAM = "a stream of unknown length: samples chosen by a reservoir"
UNSIZED = "batches of unknown sizes: samples chosen by a reservoir"


def choose_samples(size: int, n_samples: int, seed: int | None) -> Int[Tensor, " k"]:
    """Choose samples of a data set uniformly, without the global random numbers.

    Args:
        size: Samples in the data set.
        n_samples: How many to choose; all if there are fewer.
        seed: Seed of a private generator; None chooses the first ones, as the paper did.

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
    """Draw a number in [0, 1) for each sample from a private generator."""
    generator = torch.Generator().manual_seed(0 if seed is None else seed)
    return torch.rand(n_samples, generator=generator)


class FixedSamples:
    """The samples that `choose_samples` chose, met batch by batch, each with a uniform draw."""

    def __init__(self, positions: Int[Tensor, " k"], draws: Float[Tensor, " k"]) -> None:
        self.note: str | None = None  # a caveat about the choice
        self.otherwise: ReservoirSamples | None = None  # for batches of unexpected sizes
        self.positions = positions  # in one pass, ascending
        self.draws = draws
        self.n_samples = len(positions)
        self.n_asked = self.n_samples  # the data set may have fewer
        self.equal_share = self.n_samples  # of each rank if all have as many: the same on all ranks
        self._batch_size: int | None = None
        self._left = 0  # samples of the data set that later batches hold
        self._seen = 0

    def expect(self, size: int, batch_size: int, otherwise: "ReservoirSamples") -> None:
        """Set the samples of the pass and of a full batch, and the choice for other batches."""
        self._left, self._batch_size, self.otherwise = size, batch_size, otherwise
        self.n_asked = otherwise.n_samples

    @property
    def next_size(self) -> int | None:
        """Samples of the data set that the next batch is made of; None if not known."""
        return None if self._batch_size is None else min(self._left, self._batch_size)

    def next_batch(self, batch_size: int) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
        """Return the chosen rows of the next batch, and the slot of each among all chosen."""
        edges = torch.tensor([self._seen, self._seen + batch_size])
        low, high = torch.searchsorted(self.positions, edges).tolist()
        rows = self.positions[low:high] - self._seen
        self._seen += batch_size
        self._left -= self.next_size or 0
        return rows, torch.arange(low, high)


class ReservoirSamples:
    """A uniform choice from a stream of unknown length: the samples of smallest random key.

    The keys come from a private generator, one per sample in the order of the stream, so that every
    pass over the same stream ends with the same samples; without a seed, with the first ones. Rows
    that drop out are overwritten.
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
        """Return the rows of the next batch that are chosen so far, and the slot of each."""
        placed: dict[int, int] = {}  # slot -> row: a later row of the batch may replace an earlier
        self._seen += batch_size
        if self._generator is None:
            keys = torch.arange(self._seen - batch_size, self._seen, dtype=torch.float64)
        else:
            keys = torch.rand(batch_size, generator=self._generator, dtype=torch.float64)
        may_be_chosen: Iterable[int] = range(batch_size)
        if len(self._kept) == self.n_samples:
            may_be_chosen = (keys < -self._kept[0][0]).nonzero().flatten().tolist()
        for row in may_be_chosen:
            key = float(keys[row])
            if len(self._kept) < self.n_samples:
                slot = len(self._kept)
                heapq.heappush(self._kept, (-key, slot))
            elif key < -self._kept[0][0]:
                slot = self._kept[0][1]
                heapq.heapreplace(self._kept, (-key, slot))
            else:
                continue
            placed[slot] = row
        rows, slots = list(placed.values()), list(placed)
        return torch.tensor(rows, dtype=torch.long), torch.tensor(slots, dtype=torch.long)


Samples = FixedSamples | ReservoirSamples


def first_samples(n_samples: int, seed: int = 0) -> FixedSamples:
    """Choose the first samples of a pass."""
    return FixedSamples(torch.arange(n_samples), uniform_draws(n_samples, seed))


def samples_of(loader: object, n_batches: int | float, n_samples: int, seed: int | None) -> Samples:
    """Choose the samples of one pass over the first batches of a loader."""
    size = total = pass_size(loader, n_batches)
    sampler = getattr(loader, "sampler", None)
    is_shuffled, rank, world = isinstance(sampler, RandomSampler), 0, 1
    if isinstance(sampler, DistributedSampler):
        # Rank r of w sees samples r, r + w, ... and, so that all ranks see as many, some of the
        # first ones again at the end: these are never chosen.
        is_shuffled, rank, world = sampler.shuffle, sampler.rank, sampler.num_replicas
        n_seen = len(sampler) if size is None else size
        total = min(len(sampler.dataset), n_seen * world)  # type: ignore[arg-type]
    if total is None:
        return ReservoirSamples(n_samples, seed, why_unsized(loader))
    # Chosen globally with a shared seed; kept are the ones that this rank will see, if any.
    positions = choose_samples(total, n_samples, seed)
    mine = positions % world == rank
    chosen = FixedSamples(positions[mine] // world, uniform_draws(len(positions), seed)[mine])
    chosen.equal_share = -(-len(positions) // world)
    chosen.note = SHUFFLED if is_shuffled else None
    if size is not None:
        batch_size = loader.batch_sampler.batch_size  # type: ignore[attr-defined]  # see `pass_size`
        chosen.expect(size, batch_size, ReservoirSamples(n_samples, seed, chosen.note or UNSIZED))
    return chosen


def why_unsized(loader: object) -> str:
    """Return the note on a loader whose number of samples is not known beforehand."""
    is_stream = isinstance(getattr(loader, "dataset", None), IterableDataset)
    return STREAM if is_stream else UNSIZED


def pass_size(loader: object, n_batches: int | float) -> int | None:
    """Return how many samples the first batches of a loader hold, if that is known beforehand."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    batches = loader.batch_sampler
    if type(batches) is not BatchSampler or not isinstance(batches.sampler, Sized):
        return None
    size, batch_size = len(batches.sampler), batches.batch_size
    if batches.drop_last:
        size -= size % batch_size
    return int(min(size, n_batches * batch_size))


class TokenDraw:
    """Draws tokens uniformly from all tokens of one pass, the same ones whatever the padding.

    The draw depends on the numbers of true tokens alone: all layers with as many, and all passes
    over the same samples, have the same ones.
    """

    def __init__(self, rule: RowRule, n_tokens: int) -> None:
        self._chosen = ReservoirSamples(n_tokens, rule.seed)
        self._positions, self._most = rule.positions, rule.tokens_per_sample
        self._generator = torch.Generator().manual_seed(rule.seed)

    def next_rows(
        self, tokens: Float[Tensor, "r t d"], mask: Bool[Tensor, "r m"] | None
    ) -> tuple[Float[Tensor, "k d"], Int[Tensor, " k"]]:
        """Return the chosen tokens of the next samples, and the slot of each among all chosen."""
        if mask is not None and mask.shape[1] != tokens.shape[1]:
            raise ValueError(
                f"expected {mask.shape[1]} tokens, as the mask has, got {tokens.shape[1]}"
            )
        counts = torch.ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()
        sample, place = self._candidates(counts).nonzero(as_tuple=True)
        rows, slots = self._chosen.next_batch(len(sample))
        sample, place = sample[rows].to(tokens.device), place[rows].to(tokens.device)
        return tokens[sample, place], slots

    def _candidates(self, mask: Bool[Tensor, "r t"]) -> Bool[Tensor, "r t"]:
        """Return the tokens that may be drawn: at the positions, at most so many a sample."""
        if self._positions is not None:
            nth, n = mask.cumsum(1) - 1, mask.sum(1, keepdim=True)
            of_positions = [nth == (p if p >= 0 else n + p) for p in self._positions]
            mask = mask & torch.stack(of_positions).any(0)
        if self._most is None:
            return mask
        keys = torch.full(mask.shape, 2.0, dtype=torch.float64)
        n_keys = int(mask.sum())
        keys[mask] = torch.rand(n_keys, generator=self._generator, dtype=torch.float64)
        return mask & (keys.argsort(1).argsort(1) < self._most)
