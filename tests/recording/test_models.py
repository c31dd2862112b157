"""Kinds of models: attention, tokens, recurrence, dictionaries, shared and unusual modules."""

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader

from lightning_id.functional import twonn_dimension
from tests.recording import measuring
from tests.recording.measuring import Runs

N = 40


def measure(net, data, layers="auto", **options):
    return measuring.measure(Runs(net), DataLoader(data, 16), layers, **options).records


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """An encoder as Hugging Face writes it: blocks give tuples, the model a dictionary."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.value = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            weights = (self.query(x) @ x.mT).softmax(-1)
            return x + weights @ self.value(x), weights

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(self.Block() for _ in range(3))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        for layer in self.layers:
            x, _ = layer(x)
        return {"logits": self.head(x[:, 0]), "last_hidden_state": x}


@pytest.mark.parametrize(
    ("reduce", "width"), [("flatten", 40), ("mean", 8), ("max", 8), ("cls", 8), ("last", 8)]
)
def test_blocks_that_give_tuples_are_measured_as_asked(reduce, width):
    found = measure(Tokens(), noise(N, 5, 8), reduce=reduce)
    # What the head is given is the first token of the last block: with "cls" the same rows.
    last = [] if reduce == "cls" else ["last_hidden"]
    assert list(found) == ["input", *(f"net.layers.{i}" for i in range(3)), *last, "net.head"]
    assert (found["net.layers.2"]["role"] == "last_hidden") == (reduce == "cls")
    blocks = [found[f"net.layers.{i}"] for i in range(3)]
    assert {block["ambient_dimension"] for block in blocks} == {width}
    assert [block["depth"] for block in blocks] == [0.25, 0.5, 0.75]


def test_a_dictionary_gives_its_last_hidden_state():
    net = Tokens().eval()
    x = noise(N, 5, 8)
    found = measure(net, x, ["net"])
    with torch.no_grad():
        rows = net(x)["last_hidden_state"].flatten(1)
    assert found["net"]["value"] == pytest.approx(twonn_dimension(rows).value, rel=1e-5)


def test_a_vision_transformer_is_measured_and_its_fused_projection_named():
    net = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16
    )
    layers = ["auto", "re:.*self_attention", "re:.*out_proj"]
    found = measure(net, noise(N, 3, 16, 16), layers)
    assert found["net.encoder.layers.encoder_layer_1"]["reason"] is None
    assert found["net.encoder.layers.encoder_layer_0.self_attention"]["reason"] is None
    fused = found["net.encoder.layers.encoder_layer_0.self_attention.out_proj"]
    assert "never called" in fused["reason"]
    assert "fused kernel" in fused["reason"]


def test_a_nested_tensor_is_padded_with_zeros():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x):
            ragged = torch.nested.nested_tensor([row[: 1 + i % 3] for i, row in enumerate(x)])
            self.inner(ragged)

    x = noise(N, 5, 8)
    found = measure(Nested(), x, ["net.inner"])
    rows = torch.stack(
        [row[:3] * (torch.arange(3) <= i % 16 % 3)[:, None] for i, row in enumerate(x)]
    )
    assert found["net.inner"]["value"] == twonn_dimension(rows.flatten(1)).value


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_recurrent_layer_is_measured_whichever_axis_it_states_for_the_batch(batch_first):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(8, 6, batch_first=batch_first)

        def forward(self, x):
            return self.lstm(x if batch_first else x.transpose(0, 1))

    found = measure(Recurrent(), noise(N, 5, 8), ["net.lstm"], reduce="last")
    assert found["net.lstm"]["reason"] is None
    assert found["net.lstm"]["ambient_dimension"] == 6


def test_a_shared_module_is_found_under_both_names_and_measured_once():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 8)
            self.second = self.first

        def forward(self, x):
            return self.second(self.first(x))

    found = measure(Shared(), noise(N, 8), ["net.first", "net.second"])
    assert found["net.first"]["value"] == found["net.second"]["value"]


def test_a_convolutional_network_is_measured_with_relus_in_place():
    net = torchvision.models.resnet18(weights=None).eval()
    x = (noise(N, 5) @ noise(5, 3 * 32 * 32)).unflatten(1, (3, 32, 32))
    found = measure(net, x, ["net.bn1", "net.layer1"])
    with torch.no_grad():
        rows = net.bn1(net.conv1(x))  # torchvision's ReLU overwrites this in place
    assert (rows < 0).any()
    assert found["net.bn1"]["value"] == pytest.approx(
        twonn_dimension(rows.flatten(1)).value, rel=1e-4
    )
