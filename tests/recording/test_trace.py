"""The order and depth of layers, read from one forward pass."""

import pytest
import torch
import torchvision
from torch import nn

from lightning_id.recording.hooks import Hooks
from lightning_id.recording.layers import select_layers
from lightning_id.recording.modules import named_layers
from lightning_id.recording.trace import Trace

# Ansuini et al. (2019), figure 3, without its authors' extra 1 for every Linear and avgpool;
# and of ResNets the first block of the first and of a long stage.
DEPTHS = {
    "alexnet": [1, 2, 5, 6, 7, 8],
    "vgg11": [1, 2, 4, 6, 8, 9, 10, 11],
    "vgg13": [2, 4, 6, 8, 10, 11, 12, 13],
    "vgg16": [2, 4, 7, 10, 13, 14, 15, 16],
    "vgg19": [2, 4, 8, 12, 16, 17, 18, 19],
    "resnet18": [1, 3, 5, 9, 13, 17, 17, 18],
    "resnet34": [1, 3, 7, 15, 17, 27, 33, 33, 34],
    "resnet50": [1, 4, 10, 22, 25, 40, 49, 49, 50],
    "resnet101": [1, 4, 10, 22, 25, 91, 100, 100, 101],
    "resnet152": [1, 4, 10, 34, 37, 142, 151, 151, 152],
    # Not of the paper. The projections of attention are no modules of their own there.
    "vit_b_16": [*range(3, 26, 2), 26],
}


DEPTHS |= {f"{name}_bn": depths for name, depths in DEPTHS.items() if name.startswith("vgg")}


def traced(modules, model, batch):
    """Return the trace of a pass."""
    trace, hooks = Trace(modules), Hooks()
    trace.attach(model, hooks)
    with torch.no_grad():
        model(batch)
    hooks.remove()
    return trace


@pytest.mark.parametrize("name", DEPTHS)
def test_auto_finds_the_layers_and_depths_of_the_source_work(name):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None).eval()
    chosen = select_layers(model)
    modules = named_layers(model)
    side = 224 if name.startswith("vit") else 32 if name.startswith("vgg") else 64
    named = {layer: modules[layer] for layer in chosen if layer in modules}
    trace = traced(named, model, torch.zeros(1, 3, side, side, device="meta"))
    assert list(chosen) == ["input", *trace.depths]
    assert list(trace.depths.values()) == DEPTHS[name]
    assert trace.total == DEPTHS[name][-1]
    assert trace.last_linear is list(modules.values())[-1]


def test_layers_that_are_given_the_same_tensor_count_once():
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.shortcut = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(self.a(x)) + self.shortcut(x)

    model = nn.Sequential(Residual(), nn.Linear(4, 2))
    trace = traced({"0": model[0], "1": model[1]}, model, torch.zeros(1, 4))
    assert trace.depths == {"0": 2, "1": 3}


class Conv1D(nn.Module):
    """A Linear with the transposed weight, as GPT-2 has it."""

    def __init__(self, inner, outer):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(inner, outer))

    def forward(self, x):
        return x @ self.weight


def test_every_layer_with_a_weight_matrix_counts_and_embeddings_and_norms_do_not():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.norm = nn.Embedding(9, 4), nn.LayerNorm((4, 4))
            self.first, self.scale = Conv1D(4, 4), nn.PReLU(4)
            self.rnn = nn.GRU(4, 5, num_layers=3, batch_first=True)
            self.both, self.head = nn.Bilinear(5, 5, 4), nn.Linear(4, 2)

        def forward(self, ids):
            x = self.rnn(self.scale(self.first(self.norm(self.embedding(ids))).mT).mT)[0][:, -1]
            return self.head(self.both(x, x))

    model = Net()
    trace = traced(named_layers(model), model, torch.zeros(2, 4, dtype=torch.long))
    assert trace.depths == {
        "embedding": 0,
        "norm": 0,
        "first": 1,
        "scale": 1,
        "rnn": 4,
        "both": 5,
        "head": 6,
    }
    assert trace.last_linear is model.head
    assert trace.depth_before(model.head) == 5
    assert trace.total == 6


def test_the_order_is_that_of_execution_and_not_of_registration():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.second(self.first(x))

    model = Backwards()
    trace = traced(named_layers(model), model, torch.zeros(1, 4))
    assert list(trace.depths) == ["first", "second"]
    assert trace.last_linear is model.second
    assert not model.first._forward_hooks
