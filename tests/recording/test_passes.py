"""A pass of chosen samples through a model: its batches, modes, arguments and device."""

import random
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_id.recording.passes import (
    ChosenBatches,
    arguments_of,
    batch_to,
    evaluating,
    has_known_samples,
)
from lightning_id.recording.samples import (
    STREAM,
    FixedSamples,
    ReservoirSamples,
    choose_samples,
    uniform_draws,
)


class Numbers(Dataset):
    """Sample i is the number i; notes which are loaded."""

    def __init__(self, n=50):
        self.n, self.loaded = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.loaded.append(i)
        return torch.tensor([float(i)])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(50.0)[:, None])


def met(chosen):
    """Pass the batches: the samples that are recorded, by slot, and the sizes of the batches."""
    slots, sizes = {}, []
    for batch in chosen.batches:
        rows, places = chosen.samples.next_batch(len(batch))
        slots |= zip(places.tolist(), batch[rows].flatten().long().tolist(), strict=True)
        sizes.append(len(batch))
    return [slots[i] for i in range(len(slots))], sizes


def test_only_the_chosen_samples_are_loaded_in_the_order_of_the_data_set():
    data = Numbers()
    chosen = ChosenBatches(DataLoader(data, 8, shuffle=True), 20, seed=0, rank=0, world=1)
    samples, sizes = met(chosen)
    assert samples == data.loaded == choose_samples(50, 20, 0).tolist()
    assert sizes == [8, 8, 4]
    assert torch.equal(chosen.samples.draws, uniform_draws(20, 0))
    assert chosen.samples.equal_share == 20
    assert met(ChosenBatches(DataLoader(data, 8), 90, 0, 0, 1))[0] == list(range(50))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_the_samples_and_pass_as_many_batches(world):
    found, draws, sizes = [], [], set()
    for rank in range(world):
        chosen = ChosenBatches(DataLoader(Numbers(), 4), 20, seed=0, rank=rank, world=world)
        samples, size = met(chosen)
        found += samples
        draws += zip(samples, chosen.samples.draws.tolist(), strict=True)
        sizes.add(tuple(size))
        assert chosen.samples.equal_share == -(-20 // world)
    positions = choose_samples(50, 20, 0).tolist()
    assert sorted(found) == positions
    assert sorted(draws) == list(zip(positions, uniform_draws(20, 0).tolist(), strict=True))
    assert len(sizes) == 1


def test_a_rank_with_one_sample_less_repeats_the_last_and_does_not_record_it():
    data = Numbers(3)
    samples, sizes = met(ChosenBatches(DataLoader(data, 4), 3, seed=0, rank=1, world=2))
    assert samples == [1]
    assert sizes == [2]
    assert data.loaded == [1, 2]


def test_batches_of_a_data_set_have_an_expected_size_and_a_choice_for_others():
    samples = ChosenBatches(DataLoader(Numbers(), 8), 20, seed=0, rank=0, world=1).samples
    assert isinstance(samples, FixedSamples)
    assert isinstance(samples.otherwise, ReservoirSamples)
    sizes = []
    for _ in range(3):
        sizes.append(samples.next_size)
        samples.next_batch(samples.next_size)
    assert sizes == [8, 8, 4]


def test_a_loader_without_a_batch_size_passes_64_at_a_time():
    loader = DataLoader(Numbers(100), batch_sampler=[[0, 1], [2]])
    assert met(ChosenBatches(loader, 100, 0, 0, 1))[1] == [64, 36]


def test_batches_are_made_as_the_loader_makes_them():
    def collate(samples):
        return torch.stack(samples) + 100

    loader = DataLoader(Numbers(), 8, collate_fn=collate, num_workers=0)
    assert met(ChosenBatches(loader, 2, None, 0, 1))[0] == [100, 101]


@pytest.mark.parametrize(
    ("loader", "note"),
    [(DataLoader(Stream(), 8), STREAM), ([torch.arange(50.0)[:, None]], None)],
    ids=["stream", "list"],
)
def test_a_pass_of_unknown_length_is_whole_and_chosen_by_a_reservoir(loader, note):
    chosen = ChosenBatches(loader, 20, seed=0, rank=0, world=1)
    assert chosen.batches is loader
    assert isinstance(chosen.samples, ReservoirSamples)
    assert note is None or chosen.samples.note == note
    samples, sizes = met(chosen)
    assert len(set(samples)) == 20
    assert sum(sizes) == 50


class Unsized(Dataset):
    def __getitem__(self, i):
        return torch.tensor([float(i)])


@pytest.mark.parametrize(
    ("loader", "is_known"),
    [
        (DataLoader(Numbers(), 8), True),
        (DataLoader(Numbers(), batch_sampler=[[0]]), True),
        (DataLoader(Numbers(), batch_size=None), False),
        (DataLoader(Unsized(), 8, sampler=[0, 1]), False),
        (DataLoader(Stream(), 8), False),
        ([torch.zeros(2)], False),
    ],
    ids=["plain", "batch sampler", "whole batches", "unsized", "stream", "list"],
)
def test_samples_are_known_of_a_sized_data_set_that_is_loaded_one_by_one(loader, is_known):
    assert has_known_samples(loader) is is_known


class Merging(nn.Linear):
    """A layer whose `train` does more than set the mode, as adapters merge their weights."""

    def train(self, mode=True):
        raise AssertionError("called")


def test_evaluating_restores_every_mode_and_the_random_numbers_also_after_an_exception():
    net = nn.Sequential(Merging(3, 3), nn.Dropout(), nn.BatchNorm1d(3))
    net[2].training = False  # frozen by the user
    modes = [module.training for module in net.modules()]
    states = torch.get_rng_state(), random.getstate()

    def fail():
        with evaluating(net):
            assert not any(module.training for module in net.modules())
            assert not torch.is_grad_enabled()
            torch.rand(1), random.random()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [module.training for module in net.modules()] == modes
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def image_and_label(image, label=None):
    return image


X, Y = torch.ones(2), torch.zeros(2)


@pytest.mark.parametrize(
    ("batch", "args", "kwargs"),
    [
        ([X, Y], (X,), {}),
        ((X, Y), (X,), {}),
        ({"image": X}, (), {"image": X}),
        ({"image": X, "label": Y}, (), {"image": X, "label": Y}),
        ({"pixels": X}, ({"pixels": X},), {}),  # no keyword of the forward
        ({0: X}, ({0: X},), {}),
        (X, (X,), {}),
    ],
    ids=["list", "tuple", "keyword", "keywords", "other keys", "numbers", "tensor"],
)
def test_a_forward_is_given_the_first_element_or_the_items_it_takes(batch, args, kwargs):
    assert arguments_of(batch, image_and_label) == (args, kwargs)


def test_a_forward_without_a_signature_is_given_the_mapping_as_a_whole():
    assert arguments_of({"x": X}, dict.fromkeys) == (({"x": X},), {})


class Pair(NamedTuple):
    x: torch.Tensor
    name: str


class Graph:
    """A batch of another package that moves itself."""

    def to(self, device):
        return f"on {device}"


def test_every_tensor_of_a_batch_is_moved_and_containers_keep_their_kind():
    meta = torch.device("meta")
    batch = {"pair": Pair(X, "a"), "list": [X, (Y, 3)], "graph": Graph(), "text": "b", "none": None}
    moved = batch_to(batch, meta)
    assert isinstance(moved["pair"], Pair)
    assert isinstance(moved["list"], list)
    assert isinstance(moved["list"][1], tuple)
    assert {moved["pair"].x.device, moved["list"][0].device, moved["list"][1][0].device} == {meta}
    assert (moved["pair"].name, moved["list"][1][1]) == ("a", 3)
    assert (moved["graph"], moved["text"], moved["none"]) == ("on meta", "b", None)
    assert batch_to(X, torch.device("cpu")) is X
