"""`id/last_hidden`: the input of the last Linear on the way to the output, or no number."""

import copy
import warnings

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import DataLoader

from lightning_id import IntrinsicDimensionCallback
from lightning_id.functional import twonn_dimension
from lightning_id.recording.modules import named_layers
from tests.recording import measuring
from tests.toys import trainer

N = 40


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class Watched(pl.LightningModule):
    """Runs a network on every batch; validation is all that happens."""

    def __init__(self, net, **others):
        super().__init__()
        self.net = net
        for name, other in others.items():
            setattr(self, name, other)

    def training_step(self, batch, batch_idx):
        return None

    def validation_step(self, batch, batch_idx):
        self.net(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def measure(model, data):
    """Return the record of the last hidden layer and the plan, without a Trainer."""
    found = measuring.measure(model, DataLoader(data, 16), ["input"])
    records = (record for record in found.records.values() if record["role"] == "last_hidden")
    return next(records, None), found.plan


def validate(model, data, layers="auto", **kwargs):
    """Return the metrics, the record of the last hidden layer, and the warnings."""
    callback = IntrinsicDimensionCallback(layers, **kwargs)
    runner = trainer(None, callbacks=[callback])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        runner.validate(model, DataLoader(data, batch_size=16), verbose=False)
    found = [r for r in callback.history.records if r["role"] == "last_hidden"]
    texts = [str(w.message) for w in caught if "no id/last_hidden" in str(w.message)]
    metrics = {key: float(value) for key, value in runner.callback_metrics.items()}
    return metrics, next(iter(found), None), texts


def given_to(model, name, data, **kwargs):
    """Return what a layer is given in one pass over all samples, without the package."""
    kept = []
    handle = named_layers(model)[name].register_forward_pre_hook(
        lambda _module, args: kept.append(args[0].clone())
    )
    with torch.no_grad():
        model.eval().validation_step(data, 0)
    handle.remove()
    return kept[0]


class TokensFirst(nn.Module):
    """A vision transformer whose tokens come first: inner Linears are given (tokens, samples)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 6)
        self.block = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.embed(x.transpose(0, 1))
        return self.head((x + self.block(x)).mean(0))


class Windows(nn.Module):
    """Windows of an image as rows of their own, as Swin has them."""

    def __init__(self):
        super().__init__()
        self.qkv, self.merge = nn.Linear(8, 8), nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        n = len(x)
        x = self.qkv(x[:, :4].reshape(n * 2, 2, 8)).reshape(n, 2, 16)
        return self.head(self.merge(x).mean(1))


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, x):
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        padding[::2, -2:] = True
        return self.head(self.encoder(x, src_key_padding_mask=padding)[:, 0])


def test_early_stopping_has_its_key_at_the_first_measurement(tmp_path):
    pl.seed_everything(0, verbose=False)
    model, data = Watched(TokensFirst()), noise(N, 5, 8)
    stopping = EarlyStopping("id/last_hidden", patience=5)
    runner = trainer(tmp_path, callbacks=[IntrinsicDimensionCallback(["input"]), stopping])
    loader = DataLoader(data, batch_size=16)
    runner.fit(model, loader, loader)
    expected = twonn_dimension(given_to(model, "net.head", data)).value
    assert stopping.best_score == pytest.approx(expected, rel=1e-4)


def test_a_network_of_one_linear_has_its_input_as_last_hidden():
    data = noise(N, 6)
    metrics, found, _ = validate(Watched(nn.Sequential(nn.Flatten(), nn.Linear(6, 2))), data)
    assert found["layer"] == "input"
    assert found["value"] == twonn_dimension(data).value
    assert metrics["id/last_hidden"] == pytest.approx(found["value"])


class Momentum(nn.Module):
    """Two encoders of one kind, the second without gradients, compared by a function."""

    def __init__(self):
        super().__init__()
        self.query = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
        self.key = copy.deepcopy(self.query).requires_grad_(False)

    def forward(self, x):
        query, key = self.query(x), self.key(x.flip(1))
        return query @ key.T


class Heads(nn.Module):
    """A trunk and Linear heads that are given the same."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(6, 5)
        self.heads = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))

    def forward(self, x):
        x = self.trunk(x).relu()
        return [head(x) for head in self.heads]


class Auxiliary(nn.Module):
    """The output first, then another output of the same trunk."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(6, 5)
        self.main = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2), nn.Softmax(1))
        self.aux = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2))

    def forward(self, x):
        x = self.trunk(x)
        return self.main(x), self.aux(x)


class Thrice(nn.Module):
    """A head that is called several times for a batch: its first call is measured."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.trunk(x)
        return self.head(x) + self.head(x**3) + self.head(x**5)


class Squeezed(nn.Module):
    """Functions after the last Linear, and between the others."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x):
        return self.third(x + self.second(self.first(x).relu())).squeeze(1).sigmoid()


class Byol(nn.Module):
    """A momentum encoder of other classes than the last module of the branch that is trained."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.projector = nn.Sequential(nn.Linear(8, 7), nn.LayerNorm(7), nn.Linear(7, 4))
        self.predictor = nn.Linear(4, 4)
        self.encoder_m = copy.deepcopy(self.encoder).requires_grad_(False)
        self.projector_m = copy.deepcopy(self.projector).requires_grad_(False)

    def forward(self, x):
        online = self.predictor(self.projector(self.encoder(x)))
        return (online * self.projector_m(self.encoder_m(x))).sum(1)


class Quantized(nn.Module):
    """A module with weights that returns whole numbers, next to the network."""

    def __init__(self):
        super().__init__()
        self.codes, self.flatten = nn.Sequential(nn.Linear(6, 9), Codes()), nn.Flatten()
        self.hidden, self.last = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x):
        codes = self.codes(x)
        return self.last(self.hidden(self.flatten(x)).relu()) + codes[:, None]


class Codes(nn.Module):
    def forward(self, x):
        return x.argmax(1)


class Matrix(nn.Module):
    """The Linear of another package."""

    def __init__(self, width, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, width) / 3)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        return x @ self.weight.T + self.bias


class OwnLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), Matrix(5, 2)

    def forward(self, x):
        return self.last(self.first(x).relu())


class InPlace(nn.Module):
    """Blocks that add to the tensor that they are given."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(6, 6), nn.Linear(6, 2)
        self.blocks = nn.ModuleList(AddsInPlace() for _ in range(3))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class AddsInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x += self.left(x).tanh()
        x += self.right(x).tanh()
        return x


@pytest.mark.parametrize(
    ("net", "name", "shape"),
    [
        (TokensFirst, "head", (5, 8)),
        (Windows, "head", (5, 8)),
        (Padded, "head", (5, 8)),
        (Momentum, "query.2", (6,)),
        (Heads, "heads.0", (6,)),
        (Auxiliary, "main.2", (6,)),
        (Squeezed, "third", (6,)),
        (Byol, "predictor", (6,)),
        (Quantized, "last", (6,)),
        (OwnLinear, "last", (6,)),
        (InPlace, "head", (6,)),
        (Thrice, "head", (6,)),
    ],
)
def test_it_is_what_the_last_linear_on_the_way_to_the_output_is_given(net, name, shape):
    pl.seed_everything(0, verbose=False)
    model, data = Watched(net()), noise(N, *shape)
    record, plan = measure(model, data)
    assert plan.given["last_hidden"] == f"net.{name}"
    expected = twonn_dimension(given_to(model, f"net.{name}", data)).value
    assert record["value"] == pytest.approx(expected, rel=1e-5)


class Student(Watched):
    """A teacher that is called after the student, in the step and not in a network."""

    def validation_step(self, batch, batch_idx):
        self.net(batch + 1), self.teacher(batch - 1)


def test_of_a_student_and_a_teacher_without_gradients_it_is_that_of_the_student():
    pl.seed_everything(0, verbose=False)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    model = Student(net, teacher=copy.deepcopy(net).requires_grad_(False))
    nn.init.normal_(model.teacher[0].weight)
    data = noise(N, 6)
    record, _ = measure(model, data)
    expected = twonn_dimension(given_to(model, "net.2", data)).value
    assert record["value"] == pytest.approx(expected, rel=1e-5)


class Diffusion(nn.Module):
    """Convolutions to the end, with a Linear for the time."""

    def __init__(self):
        super().__init__()
        self.first, self.time = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(1, 4)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x):
        return self.last(self.first(x) + self.time(x.mean((1, 2, 3))[:, None])[..., None, None])


def test_where_the_network_ends_otherwise_there_is_no_key_and_one_warning():
    metrics, found, texts = validate(Watched(Diffusion()), noise(N, 1, 6, 6), ["input"])
    assert "id/last_hidden" not in metrics
    assert found is None
    assert texts == [
        "IntrinsicDimensionCallback: no id/last_hidden: the network ends in Conv2d 'net.last', not"
        " in a Linear; last_hidden=... names a layer to take"
    ]


class Headless(nn.Module):
    """A residual block and a norm, as the towers of CLIP and encoders without a head end."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Linear(36, 6), nn.LayerNorm(6)
        self.block = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 24), nn.GELU(), nn.Linear(24, 6))

    def forward(self, x):
        x = self.embed(x)
        return self.norm(x + self.block(x))


class HeadlessBlocks(Headless):
    """The same with the residual sum in a module."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.inner, self.outer = nn.LayerNorm(6), nn.Linear(6, 24), nn.Linear(24, 6)

        def forward(self, x):
            return x + self.outer(self.inner(self.norm(x)).relu())

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(self.Block(), self.Block())

    def forward(self, x):
        return self.norm(self.block(self.embed(x)))


@pytest.mark.parametrize("net", [Headless, HeadlessBlocks])
def test_a_linear_inside_of_the_last_block_is_not_where_a_network_ends(net):
    record, plan = measure(Watched(net()), noise(N, 36))
    assert record is None
    reason = "the network ends in LayerNorm 'net.norm', not in a Linear"
    assert plan.reasons["last_hidden"] == reason


class Tower(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x):
        return self.layers(x)


def test_two_towers_have_two_ends_and_none_is_guessed():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = Tower(36), Tower(36)

        def forward(self, x):
            return (self.left(x) * self.right(x)).sum(1)

    record, plan = measure(Watched(Both()), noise(N, 36))
    assert record is None
    ends = "Linear 'net.left.layers.2', Linear 'net.right.layers.2'"
    assert plan.reasons["last_hidden"] == f"the network has several ends, {ends}"


@pytest.mark.parametrize("layers", [["input"], {"net.first": "hidden"}, ["last_hidden", "input"]])
def test_a_layer_may_be_named(layers):
    pl.seed_everything(0, verbose=False)
    model, data = Watched(Diffusion()), noise(N, 1, 6, 6)
    metrics, found, texts = validate(model, data, layers, last_hidden="first")
    with torch.no_grad():
        expected = twonn_dimension(model.net.first(data).flatten(1)).value
    assert metrics["id/last_hidden"] == pytest.approx(expected, rel=1e-5)
    assert found["layer"] == ("hidden" if isinstance(layers, dict) else "net.first")
    assert not texts


def test_a_named_layer_must_be_one():
    model, data = Watched(Diffusion()), noise(N, 1, 6, 6)
    with pytest.raises(ValueError, match="`last_hidden`: expected the name of one layer, got"):
        validate(model, data, last_hidden="net.*")
    with pytest.raises(ValueError, match=r"matches 'net\.frist'\. Close"):
        validate(model, data, last_hidden="net.frist")
