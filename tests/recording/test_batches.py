"""Batches of every kind: how many samples they hold, and that they are measured."""

from collections import UserDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, Dataset

from lightning_id.functional import twonn_dimension
from lightning_id.recording.batches import (
    count_samples,
    labels_of,
    mask_of,
    tensors_in,
)
from lightning_id.recording.measurement import Measurement
from lightning_id.recording.passes import ChosenBatches, arguments_of, evaluating
from lightning_id.recording.samples import UNSIZED, choose_samples
from tests.recording import measuring


@dataclass
class Images:
    image: Tensor
    label: Tensor
    path: list[str] | None = None


class Graphs:
    """Nodes of several graphs, as graph libraries batch them."""

    def __init__(self, x: Tensor, batch: Tensor, num_graphs: int) -> None:
        self.num_graphs = num_graphs
        self.edge_index = torch.zeros(2, 5, dtype=torch.long)
        self.x, self.batch = x, batch

    def to(self, *_args: object, **_kwargs: object) -> "Graphs":
        return self


class Items:
    """A mapping by its methods alone."""

    def __init__(self, **items: object) -> None:
        self._items = items

    def keys(self):
        return self._items.keys()

    def items(self):
        return self._items.items()

    def __getitem__(self, key):
        return self._items[key]

    def to(self, *_args: object, **_kwargs: object) -> "Items":
        return self


class Slotted:
    __slots__ = ("name", "x")

    def __init__(self, x: Tensor) -> None:
        self.name, self.x = "x", x


class Loop:
    def __init__(self, x: Tensor) -> None:
        self.itself, self.x = self, x


Pair = namedtuple("Pair", "x y")
X, Y = torch.arange(28.0).reshape(7, 4), torch.arange(7)


@pytest.mark.parametrize(
    "batch",
    [
        X,
        [X, Y],
        {"name": "x", "inner": ({"x": X},), "y": Y},
        Pair(X, Y),
        UserDict(x=X, y=Y),
        Items(x=X, y=Y),
        Images(X, Y),
        SimpleNamespace(n=3, x=X, y=Y),
        Slotted(X),
        Loop(X),
        [Images(X, Y), None],
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_the_tensors_of_a_batch_are_found_whatever_holds_them(batch):
    assert count_samples(batch) == 7
    assert next(tensors_in(batch)) is X
    assert [x for x in tensors_in(batch) if x.is_floating_point()] == [X]


def test_what_a_batch_states_is_its_number_of_samples():
    graphs = Graphs(torch.zeros(17, 3), torch.zeros(17), 5)
    assert count_samples(graphs) == 5
    assert count_samples([torch.zeros(17, 3), graphs]) == 5
    assert count_samples(SimpleNamespace(x=torch.zeros(17, 3), batch_size=4)) == 4
    assert count_samples(SimpleNamespace(x=X, batch_size=torch.Size([7]))) == 7
    assert count_samples(SimpleNamespace(x=X, batch_size=torch.Size([]))) == 7
    assert count_samples(pack_sequence([X[:3], X[:2], X[:1]])) == 3
    assert count_samples((pack_sequence([X[:3], X[:2]]), torch.zeros(2))) == 2


def test_the_number_that_was_asked_for_decides_where_the_batch_holds_so_many():
    images = [torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)]
    assert count_samples((images, [{"boxes": torch.zeros(4, 4)}] * 2), expected=2) == 2
    assert count_samples(([images[0]], [{"boxes": torch.zeros(4, 4)}]), expected=1) == 1
    assert count_samples(images, expected=2) == 2
    assert count_samples([torch.zeros(9, 5, 4), torch.zeros(5)], expected=5) == 5  # time first
    assert count_samples({"id": torch.tensor(3)}, expected=6) == 6


def test_a_collate_function_that_makes_other_samples_is_believed():
    assert count_samples([torch.zeros(32, 4)], expected=1) == 32  # the data set gives batches
    assert count_samples([torch.zeros(64, 4), torch.zeros(64)], expected=2) == 64
    assert count_samples(torch.zeros(31, 4), expected=32) == 31  # a broken sample is left out


def test_a_batch_that_says_nothing_is_an_error():
    for batch in ({"name": "x"}, None, object(), nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="a batch with a tensor"):
            count_samples(batch)


def test_labels_and_masks_are_found_by_name_and_by_attribute():
    mask = torch.ones(7, 4)
    mask[0, 2:] = 0
    for batch in ({"m": mask, "y": Y}, Items(m=mask, y=Y), SimpleNamespace(m=mask, y=Y)):
        assert torch.equal(labels_of(batch, 7), Y)
        assert torch.equal(mask_of(batch, "m", 7), mask != 0)
        with pytest.raises(ValueError, match=r"with 'mask', got \['m', 'y'\]"):
            mask_of(batch, "mask", 7)
    assert torch.equal(mask_of([Y, mask], -1, 7), mask != 0)
    with pytest.raises(ValueError, match="with 5, got list"):
        mask_of([Y, mask], 5, 7)


# --- measured ------------------------------------------------------------------------------------


class Rows(Dataset):
    def __init__(self, n: int = 60, d: int = 5) -> None:
        self.x = torch.randn(n, d, generator=torch.Generator().manual_seed(3))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.x[i], i % 2


class Net(nn.Module):
    """A linear network; ``get`` finds the rows in a batch."""

    def __init__(self, get) -> None:
        super().__init__()
        self.net, self.get = nn.Sequential(nn.Linear(5, 6), nn.Tanh()), get
        with torch.no_grad():
            self.net[0].weight.copy_(torch.eye(6, 5))

    def forward(self, batch):
        return self.net(self.get(batch))

    def validation_step(self, batch, batch_idx):
        self(batch)


def stack(samples):
    x, y = zip(*samples, strict=True)
    return torch.stack(x), torch.tensor(y)


def graphs(samples):
    """Two nodes of each graph; a network that gives one row for each graph."""
    x, _ = stack(samples)
    return Graphs(torch.cat([x, x + 1]), torch.zeros(2 * len(x)), len(x))


def measure(model, collate_fn, n_samples=25, data=None, **sizes):
    loader = DataLoader(data or Rows(), collate_fn=collate_fn, **sizes or {"batch_size": 8})
    return measuring.measure(model, loader, ["net.1"], n_samples=n_samples).records["net.1"]


def expected(model, rows):
    with torch.no_grad():
        return twonn_dimension(model.net(rows)).value


KINDS = {
    "dataclass": (lambda s: Images(*stack(s)), lambda b: b.image),
    "mapping": (lambda s: UserDict(x=stack(s)[0]), lambda b: b["x"]),
    "mapping by its methods": (lambda s: Items(x=stack(s)[0]), lambda b: b["x"]),
    "attributes": (lambda s: SimpleNamespace(x=stack(s)[0]), lambda b: b.x),
    "graphs": (graphs, lambda b: b.x[: b.num_graphs]),
    "list of samples": (lambda s: s, lambda b: torch.stack([x for x, _ in b])),
    "lists": (lambda s: tuple(zip(*s, strict=True)), lambda b: torch.stack(b[0])),
    "packed": (
        lambda s: pack_sequence([x.expand(2, 5) for x, _ in s]),
        lambda b: b.data[: len(b.data) // 2],
    ),
    "time first": (lambda s: [stack(s)[0].expand(3, -1, -1), stack(s)[1]], lambda b: b[0][0]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_chosen_samples_of_every_kind_of_batch_are_measured(kind):
    collate_fn, get = KINDS[kind]
    model, data = Net(get), Rows()
    record = measure(model, collate_fn)
    assert record["reason"] is None
    assert UNSIZED not in (record["note"] or "")  # the law of the ratios may have a note
    rows = data.x[choose_samples(60, 25, 0)]
    assert record["value"] == pytest.approx(expected(model, rows), rel=1e-6)


def assert_is_a_probe(model, collate_fn):
    """Check the record of a pass of chosen samples, of which the module is given arguments."""
    data = Rows()
    chosen = ChosenBatches(DataLoader(data, 8, collate_fn=collate_fn), 25, 0, rank=0, world=1)
    measurement = Measurement(model, {"net.1": "net.1"}, chosen.samples, last_hidden="net.1")
    with evaluating(model):
        for batch in chosen.batches:
            args, kwargs = arguments_of(batch, model.forward)
            measurement.begin_batch(batch)
            model(*args, **kwargs)
            measurement.end_batch()
    (result,) = measurement.results({"twonn": twonn_dimension})
    rows = data.x[choose_samples(60, 25, 0)]
    assert result.estimates["twonn"].value == pytest.approx(expected(model, rows), rel=1e-6)


@pytest.mark.parametrize("kind", ["dataclass", "mapping", "mapping by its methods", "graphs"])
def test_every_kind_of_batch_is_a_probe(kind):
    collate_fn, get = KINDS[kind]
    assert_is_a_probe(Net(get), collate_fn)


def test_the_items_of_a_mapping_that_is_no_dict_are_given_as_keywords():
    class Named(Net):
        def forward(self, image, label):
            assert len(image) == len(label)
            return self.net(image)

    def named(samples):
        return UserDict(zip(("image", "label"), stack(samples), strict=True))

    assert_is_a_probe(Named(None), named)


def test_a_data_set_of_whole_batches_is_measured_over_all_of_them():
    class Whole(Dataset):
        rows = Rows(64).x

        def __len__(self):
            return 4

        def __getitem__(self, i):
            return [self.rows[16 * i : 16 * i + 16]]

    model = Net(lambda batch: batch[0])
    record = measure(model, lambda b: b[0], 64, Whole(), batch_size=1)
    assert record["value"] == pytest.approx(expected(model, Whole.rows), rel=1e-6)
    assert record["n_samples"] == 64  # and not 4
    assert record["note"] == UNSIZED


def test_samples_that_a_collate_function_leaves_out_do_not_matter():
    def without_some(samples):
        return stack([s for s in samples if s[0][0] > -1.0])

    model, data = Net(lambda batch: batch[0]), Rows()
    record = measure(model, without_some, 100)
    kept = data.x[data.x[:, 0] > -1.0]
    assert 30 < len(kept) < 60
    assert record["n_samples"] == len(kept)
    assert record["value"] == pytest.approx(expected(model, kept), rel=1e-6)


def test_batches_of_unknown_sizes_are_no_stream():
    class Buckets:
        def __iter__(self):
            yield from (list(range(7)), list(range(7, 30)), list(range(30, 60)))

        def __len__(self):
            return 3

    model, data = Net(lambda batch: batch[0]), Rows()
    record = measure(model, None, 100, batch_sampler=Buckets())
    assert record["value"] == pytest.approx(expected(model, data.x), rel=1e-6)
    assert UNSIZED in record["note"]


def test_a_mask_of_another_shape_is_no_mask():
    with pytest.raises(ValueError, match=r"mask of \(2, tokens\) at 'mask', got \(3, 4\)"):
        mask_of({"mask": torch.ones(3, 4)}, "mask", 2)
    with pytest.raises(ValueError, match=r"mask of \(2, tokens\) at 'mask', got list"):
        mask_of({"mask": [1, 0]}, "mask", 2)
