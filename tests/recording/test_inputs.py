"""The layer `input`: the tensor that the network is given, and not what lies first in the batch."""

import pytest
import torch
from pytorch_lightning.strategies.strategy import _ForwardRedirection
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import DataLoader

from lightning_id import record_activations
from lightning_id.functional import twonn_dimension
from lightning_id.recording.measurement import Measurement, Options
from lightning_id.recording.samples import FixedSamples
from tests.recording import measuring

N = 40


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ids(*shape):
    return torch.randint(50, shape, generator=torch.Generator().manual_seed(0))


X, TARGET = noise(N, 6), noise(N, seed=1)


class Net(nn.Module):
    """A user's module around the parts of a network, with a validation step that is given."""

    def __init__(self, step, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.step = step

    def forward(self, x):
        return self.net(x)

    def validation_step(self, batch, batch_idx):
        self.step(self, batch)


def measure(model, samples, layers="auto"):
    """Return TwoNN records by layer, and the remarks on them."""
    found = measuring.measure(model, DataLoader(samples, 16), layers)
    remarks = [text for texts in found.remarks.values() for text in texts]
    remarks = [text for text in remarks if "law of TwoNN" not in text]  # by chance: few random rows
    return found.records, remarks


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, pixel_values, labels=None):
        return self.net(pixel_values), labels


class Preprocessed(nn.Module):
    """Takes a list of samples, as detectors do; its transform has no parameters."""

    class Stack(nn.Module):
        def forward(self, x):
            return torch.stack(x)

    def __init__(self):
        super().__init__()
        self.transform, self.net = self.Stack(), nn.Linear(6, 3)

    def forward(self, x):
        return self.net(self.transform(x))


class WholeBatch(nn.Module):
    """Takes the batch, target included, and picks what it needs."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, batch):
        return self.net(batch[1]), batch[0]


PAIRS = [(TARGET[i], X[i]) for i in range(N)]  # the target first
RELU_FIRST = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3))
STEPS = {
    "a child": (lambda m, b: m.net(b[1]), nn.Linear(6, 3)),
    "the module itself": (lambda m, b: m(b[1]), nn.Linear(6, 3)),
    "two children": (lambda m, b: m.net[1](m.net[0](b[1])), RELU_FIRST),
    "keywords, the labels first": (lambda m, b: m.net(labels=b[0], pixel_values=b[1]), Keywords()),
    "the whole batch": (lambda m, b: m.net(b), WholeBatch()),
    "a list of samples": (lambda m, b: m.net(list(b[1])), Preprocessed()),
    "changed in place behind": (lambda m, b: m.net(b[1]), RELU_FIRST),
}


@pytest.mark.parametrize("way", STEPS)
def test_the_input_is_what_the_network_is_given_and_not_the_target(way):
    step, net = STEPS[way]
    found, _ = measure(Net(step, net=net), PAIRS)
    assert found["input"]["value"] == twonn_dimension(X).value
    assert found["input"]["depth"] == 0


def test_what_is_computed_before_the_network_is_in_its_input():
    found, _ = measure(Net(lambda m, b: m.net(b[1] ** 3), net=nn.Linear(6, 3)), PAIRS)
    assert found["input"]["value"] == twonn_dimension(X**3).value


class Flow(nn.Module):
    """Makes a function of a context that it may be given; a network is called in it."""

    def __init__(self):
        super().__init__()
        self.hyper = nn.Linear(6, 6)

    def forward(self, context=None):
        return self.hyper


def test_a_call_without_arguments_is_not_that_of_the_network():
    records, remarks = measure(Net(lambda self, x: self.net()(x), net=Flow()), X)
    assert records["input"]["value"] == twonn_dimension(X).value
    assert not remarks


def test_a_step_that_a_wrapper_runs_through_the_forward_is_no_input():
    class Wrapper(nn.Module):
        """As DDP: the strategy calls it, and it calls the module."""

        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *args):
            return self.module(*args)

    model = Net(lambda m, b: m(b[1]), net=nn.Linear(6, 3))
    wrapper, redirection = Wrapper(model), _ForwardRedirection()
    samples = FixedSamples(torch.arange(N), torch.zeros(N))
    options = Options(is_input_named=False)
    measurement = Measurement(model, {"input": "input", "net": "net"}, samples, options)
    for start in range(0, N, 16):
        batch = [TARGET[start : start + 16], X[start : start + 16]]
        measurement.begin_batch(batch)
        redirection(wrapper, model, "validation_step", batch, 0)
        measurement.end_batch()
    found = {r.layer: r for r in measurement.results({"twonn": twonn_dimension})}
    assert found["input"].estimates["twonn"].value == twonn_dimension(X).value
    assert not found["input"].notes


class Rating(nn.Module):
    """A recommender: users and items are whole numbers, and the rating is the target."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(50, 8), nn.Embedding(50, 8)
        self.hidden, self.out = nn.Linear(16, 8), nn.Linear(8, 1)

    def forward(self, users, items, rating=None):
        x = torch.cat([self.users(users), self.items(items)], dim=1)
        return self.out(self.hidden(x).relu()), rating


@pytest.mark.parametrize("given", [2, 3])
def test_a_network_that_is_given_whole_numbers_has_no_input_layer_and_no_warning(given):
    rows = list(zip(ids(N), ids(N), TARGET, strict=True))
    model = Net(lambda m, b: m.net(*b[:given]), net=Rating())
    found, remarks = measure(model, rows, ["auto", "net.users"])
    assert "input" not in found
    assert next(iter(found)) == "net.users"
    assert not remarks
    assert found["net.users"]["depth"] == 0


def test_whole_numbers_are_a_reason_where_the_input_was_asked_for():
    rows = list(zip(ids(N), ids(N), TARGET, strict=True))
    model = Net(lambda m, b: m.net(*b[:2]), net=Rating())
    found, remarks = measure(model, rows, ["input", "net.out"])
    assert found["input"]["reason"] == "expected a floating tensor, got torch.int64"
    assert len(remarks) == 1


def test_a_packed_sequence_is_no_input_and_the_reason_is_given_once():
    def step(model, batch):
        lengths = torch.arange(len(batch)) % 5 + 1
        packed = pack_padded_sequence(batch, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = model.lstm(packed)
        model.head(hidden[-1])

    model = Net(step, lstm=nn.LSTM(8, 6, batch_first=True), head=nn.Linear(6, 2))
    found, remarks = measure(model, noise(N, 5, 8), ["auto", "!lstm"])
    assert found["input"]["reason"] == (
        "expected a tensor as an argument of the module that is called first, got PackedSequence"
        " for LSTM"
    )
    assert sum("PackedSequence" in text for text in remarks) == 1
    assert found["last_hidden"]["reason"] is None


def test_an_input_without_a_row_for_each_sample_is_a_reason():
    model = Net(lambda m, b: m.net(torch.cat([b[1], b[1]])), net=nn.Linear(6, 3))
    found, _ = measure(model, PAIRS, ["input"])
    assert found["input"]["reason"].startswith("expected 16 samples along axis 0, got 32 rows")


def test_record_activations_takes_the_input_where_the_network_does():
    net = Rating()
    with record_activations(net) as rows:
        net(ids(N), ids(N), TARGET)
    assert "input" not in rows
    assert rows["hidden"].shape == (N, 8)
    whole = WholeBatch()
    with record_activations(whole, ["input"]) as rows:
        for part in (slice(0, 16), slice(16, N)):
            whole((TARGET[part], X[part]))
    assert torch.equal(rows["input"], X)
