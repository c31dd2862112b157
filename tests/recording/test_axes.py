"""Which axis holds the samples and which the features: as the modules state it."""

import pytest
import pytorch_lightning as pl
import torch
import torchvision
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import DataLoader

from lightning_id.functional import twonn_dimension
from lightning_id.recording.axes import Axes
from tests.recording import measuring


class Wrapped(nn.Module):
    def __init__(self, net, prepare=lambda x: x):
        super().__init__()
        self.net, self.prepare = net, prepare

    def validation_step(self, batch, batch_idx):
        self.net(self.prepare(batch))


def measure(model, x, layer, batch_size=20, **options):
    return measuring.measure(model, DataLoader(x, batch_size), [layer], **options).records[layer]


def outputs(model, module, batches):
    """Return the outputs of a module for batches, in eval mode, as its own hook finds them."""
    found = []
    handle = module.register_forward_hook(
        lambda _module, _args, out: found.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        for batch in batches:
            model.eval().net(model.prepare(batch))
    handle.remove()
    return found


def time_first(x):
    return x.transpose(0, 1)


class Attending(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)


RECURRENT = {
    "lstm": lambda: nn.LSTM(6, 8),
    "gru": lambda: nn.GRU(6, 8, num_layers=2),
    "attention": lambda: Attending(6, 2),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8), 2),
    "decoder layer": lambda: Decoding(6, 2, 8),
}


class Decoding(nn.TransformerDecoderLayer):
    def forward(self, x):
        return super().forward(x, x)


@pytest.mark.parametrize("length", [20, 7])
@pytest.mark.parametrize("kind", RECURRENT)
def test_samples_of_modules_with_time_first_lie_along_the_second_axis(kind, length):
    pl.seed_everything(0, verbose=False)
    x = torch.randn(60, length, 6)  # of 20 steps as many as samples in a batch
    model = Wrapped(RECURRENT[kind](), time_first)
    record = measure(model, x, "net", reduce="mean")
    rows = torch.cat([out.mean(0) for out in outputs(model, model.net, x.split(20))])
    assert record["n_samples"] == 60
    assert record["value"] == pytest.approx(twonn_dimension(rows).value, rel=1e-4)
    assert record["note"] is None


def test_what_a_time_first_module_contains_is_time_first():
    pl.seed_everything(0, verbose=False)
    x = torch.randn(60, 20, 6)
    model = Wrapped(nn.TransformerEncoderLayer(6, 2, 8), time_first)
    record = measure(model, x, "net.linear1", reduce="mean")
    rows = torch.cat([out.mean(0) for out in outputs(model, model.net.linear1, x.split(20))])
    assert record["value"] == pytest.approx(twonn_dimension(rows).value, rel=1e-4)


class Block(nn.Module):
    """A block as users write it: the attention inside states the axis, the block does not."""

    def __init__(self):
        super().__init__()
        self.attention, self.norm = Attending(6, 2), nn.LayerNorm(6)

    def forward(self, x):
        return self.norm(x + self.attention(x)[0])


def test_a_block_around_time_first_attention_is_measured_along_the_axis_that_fits():
    x = torch.randn(60, 7, 6)
    model = Wrapped(Block(), time_first)
    record = measure(model, x, "net", reduce="mean")
    rows = torch.cat([out.mean(0) for out in outputs(model, model.net, x.split(20))])
    assert record["value"] == pytest.approx(twonn_dimension(rows).value, rel=1e-4)


def test_where_two_axes_are_as_long_as_the_batch_the_record_notes_which_was_taken():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(6, 6)

        def forward(self, x):
            return self.mix(x).tanh()

    model, x = Wrapped(Tokens()), torch.randn(60, 20, 6)
    record = measure(model, x, "net", reduce="mean")
    assert record["note"].startswith("axes 0 and 1 are both as long as the batch: axis 0 was taken")
    for options in ({"batch_size": 16}, {"sample_dim": 0}):  # a smaller last batch decides it
        record = measure(model, x, "net", reduce="mean", **options)
        assert record["note"] is None


def test_an_axis_that_is_given_wins():
    model, x = Wrapped(nn.LSTM(6, 8), time_first), torch.randn(40, 20, 6)
    options = {"reduce": "mean", "sample_dim": {"net": 0}}
    record = measure(model, x, "net", **options)
    rows = torch.cat([out.mean(1) for out in outputs(model, model.net, x.split(20))])
    assert record["value"] == pytest.approx(twonn_dimension(rows).value, rel=1e-4)


# --- features ------------------------------------------------------------------------------------


def test_channels_last_maps_are_averaged_over_their_places():
    pl.seed_everything(0, verbose=False)
    net = torchvision.models.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=5)
    model, x = Wrapped(net), torch.randn(24, 3, 32, 32)
    for layer in ("net.features.0", "net.features.1", "net.features.3.1", "net.features.2.norm"):
        record = measure(model, x, layer, batch_size=8, reduce="mean")
        module = model.get_submodule(layer)
        rows = torch.cat([out.mean((1, 2)) for out in outputs(model, module, x.split(8))])
        assert record["ambient_dimension"] == rows.shape[1]
        assert record["value"] == pytest.approx(twonn_dimension(rows).value, rel=1e-3), layer
        assert record["note"] is None


def features(net, module, shape):
    return Axes(net).of_features(module, shape)


def test_every_kind_of_block_has_its_features_where_its_modules_have_them():
    conv = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    assert features(conv, conv, (2, 8, 5, 5)) == (1, False)
    assert features(conv, conv[2], (2, 8, 5, 5)) == (1, False)  # an activation: as its parent
    assert features(conv, conv, (2, 8, 8, 8)) == (1, False)
    block = torchvision.models.convnext.CNBlock(8, 1.0, 0.0)
    assert features(block, block, (2, 8, 5, 5)) == (1, False)
    signal = nn.Sequential(nn.Conv1d(3, 8, 3), nn.GELU(), nn.MaxPool1d(2))
    assert features(signal, signal, (2, 8, 5)) == (1, False)
    assert features(signal, signal[2], (2, 8, 8)) == (1, False)
    tokens = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
    assert features(tokens, tokens, (2, 5, 8)) == (-1, False)
    assert features(tokens, tokens[2], (2, 5, 32)) == (-1, False)
    assert features(tokens, tokens[0], (2, 8, 8)) == (-1, False)
    assert features(tokens, tokens, (2, 8, 8)) == (None, True)
    assert features(tokens, tokens, (2, 8, 3, 4)) == (None, False)
    assert features(None, nn.Identity(), (2, 3, 4, 5)) == (None, False)


def test_signals_are_averaged_over_their_places():
    model, x = Wrapped(nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU())), torch.randn(60, 3, 12)
    record = measure(model, x, "net", reduce="mean")
    rows = torch.cat([out.mean(2) for out in outputs(model, model.net, x.split(20))])
    assert record["ambient_dimension"] == 8
    assert record["value"] == pytest.approx(twonn_dimension(rows).value, rel=1e-4)


def test_where_two_axes_fit_the_features_the_record_notes_which_was_taken():
    class Block(nn.Sequential):
        """A block whose output may be laid out in any way, to all that is known of it."""

    net = Block(nn.LayerNorm(6), nn.Linear(6, 6))
    for shape, note in (
        ((60, 6, 6), "the features may lie along axis 1 or axis 2: axis 2 was taken"),
        ((60, 6, 5, 6), "the features may lie along axis 1 or the last axis: axis 1 was taken"),
    ):
        x = torch.randn(shape)
        record = measure(Wrapped(net), x, "net", reduce="mean")
        assert record["note"] == note
    flat = measure(Wrapped(net), torch.randn(60, 6, 6), "net")
    assert flat["note"] is None


# --- sequences of several lengths -----------------------------------------------------------------


class Padded(nn.Module):
    """An encoder that PyTorch runs on nested tensors in eval mode, or on padded ones."""

    def __init__(self, nested):
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)

    def forward(self, x):
        return self.blocks(x, src_key_padding_mask=x[:, :, 0] == 0)


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)

    def forward(self, x):
        lengths = (x[:, :, 0] != 0).sum(1)
        return self.rnn(pack_padded_sequence(x, lengths, True, enforce_sorted=False))


def sequences():
    x, lengths = torch.randn(60, 7, 6), torch.randint(2, 8, (60,))
    lengths[::20] = 7  # one in each batch
    x[torch.arange(7) >= lengths[:, None]] = 0
    return x, lengths


@pytest.mark.parametrize("reduce", ["mean", "last", "flatten"])
def test_nested_outputs_are_reduced_over_their_tokens(reduce):
    pl.seed_everything(0, verbose=False)
    x, lengths = sequences()
    model = Wrapped(Padded(nested=True))
    record = measure(model, x, "net.blocks.layers.0", reduce=reduce)
    plain = Padded(nested=False).eval()
    plain.load_state_dict(model.net.state_dict())
    with torch.no_grad():
        out = plain.blocks.layers[0](x, src_key_padding_mask=x[:, :, 0] == 0)
    out[torch.arange(7) >= lengths[:, None]] = 0
    rows = {
        "mean": out.sum(1) / lengths[:, None],
        "last": out[torch.arange(60), lengths - 1],
        "flatten": out.flatten(1),
    }[reduce]
    assert record["reason"] is None
    assert record["value"] == pytest.approx(twonn_dimension(rows).value, rel=1e-3)


def test_packed_outputs_are_reduced_over_their_tokens():
    pl.seed_everything(0, verbose=False)
    x, lengths = sequences()
    model = Wrapped(Packed())
    record = measure(model, x, "net.rnn", reduce="mean")
    with torch.no_grad():
        out = [
            model.net.rnn(row[None, :n])[0][0].mean(0) for row, n in zip(x, lengths, strict=True)
        ]
    assert record["value"] == pytest.approx(twonn_dimension(torch.stack(out)).value, rel=1e-3)
    assert "a flattened row would hold the padding" in measure(model, x, "net.rnn")["reason"]
