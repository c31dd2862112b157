import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_id.recording.samples import (
    FixedSamples,
    ReservoirSamples,
    choose_samples,
    pass_size,
    uniform_draws,
)


def collect(samples, sizes):
    """Return the position in the stream of the sample in every slot, after all batches."""
    slots, start = {}, 0
    for size in sizes:
        rows, places = samples.next_batch(size)
        slots.update(zip(places.tolist(), (rows + start).tolist(), strict=True))
        start += size
    return [slots[i] for i in range(len(slots))]


def test_the_choice_is_seeded_sorted_without_repeats_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first = choose_samples(1000, 50, seed=3)
    assert torch.equal(first, choose_samples(1000, 50, seed=3))
    assert not torch.equal(first, choose_samples(1000, 50, seed=4))
    assert torch.equal(first, first.unique())
    assert torch.equal(before, torch.get_rng_state())


def test_every_sample_is_chosen_equally_often():
    counts = torch.zeros(20)
    for seed in range(2000):
        counts[choose_samples(20, 5, seed)] += 1
    assert (counts / 2000 - 0.25).abs().max() < 0.05  # 5 standard deviations


def test_without_a_seed_the_first_samples_are_chosen():
    assert choose_samples(10, 4, None).tolist() == [0, 1, 2, 3]
    assert collect(ReservoirSamples(4, None), [3, 3, 3]) == [0, 1, 2, 3]


@pytest.mark.parametrize("sizes", [[16, 16, 8], [40], [1] * 40, [7, 7, 7, 7, 7, 5]])
def test_the_same_samples_are_taken_however_the_batches_split(sizes):
    assert (
        collect(FixedSamples(choose_samples(40, 9, 0), uniform_draws(9, 0)), sizes)
        == choose_samples(40, 9, 0).tolist()
    )


def test_a_batch_without_a_chosen_sample_has_no_rows():
    samples = FixedSamples(choose_samples(1000, 1, 0), uniform_draws(1, 0))
    taken = [len(samples.next_batch(10)[0]) for _ in range(100)]
    assert sorted(taken) == [0] * 99 + [1]


@pytest.mark.parametrize("sizes", [[16, 16, 8], [40], [1] * 40])
def test_a_reservoir_ends_with_the_same_samples_however_the_stream_is_cut(sizes):
    whole = set(collect(ReservoirSamples(9, 0), [40]))
    assert len(whole) == 9
    assert set(collect(ReservoirSamples(9, 0), sizes)) == whole


def test_a_reservoir_is_uniform_over_a_stream():
    counts = torch.zeros(20)
    for seed in range(2000):
        counts[collect(ReservoirSamples(5, seed), [6, 6, 8])] += 1
    assert (counts / 2000 - 0.25).abs().max() < 0.05


def test_the_size_of_a_pass_is_known_for_plain_loaders_only():
    data = TensorDataset(torch.zeros(50, 1))
    assert pass_size(DataLoader(data, batch_size=8), 100) == 50
    assert pass_size(DataLoader(data, batch_size=8), 3) == 24
    assert pass_size(DataLoader(data, batch_size=8, drop_last=True), float("inf")) == 48
    assert pass_size(DataLoader(data, batch_sampler=[[0, 1], [2]]), 2) is None

    class Stream(IterableDataset):
        def __iter__(self):
            yield from torch.zeros(5)

    assert pass_size(DataLoader(Stream()), 5) is None
    assert pass_size([1, 2], 2) is None
