from collections import OrderedDict

import pytest
import torch
import torchvision
from lightning_fabric.wrappers import _FabricModule
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from lightning_id import record_activations
from lightning_id.recording.layers import named_layers, select_layers
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


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        self.loss = nn.MSELoss()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("net.0", ["net.0"]),
        (["net.2", "net.0"], ["net.2", "net.0"]),
        ("net.*", ["net.0", "net.1", "net.2"]),
        (["net.?", "!net.1"], ["net.0", "net.2"]),
        ("re:.*[12]", ["net.1", "net.2"]),
        (["input", "last_hidden"], ["input", "last_hidden"]),
        ("0", ["net.0"]),  # below the only child with parameters
        (["auto", "!input"], ["net.0", "net.2"]),
        (["!input"], ["net.0", "net.2"]),  # from auto, where nothing else is named
    ],
)
def test_layers_are_chosen_by_name_glob_regex_and_exclusion(layers, expected):
    assert list(select_layers(Wrapped(), layers)) == expected


def test_an_alias_names_the_curve():
    assert select_layers(Wrapped(), {"net.0": "first", "input": "x"}) == {
        "net.0": "first",
        "input": "x",
    }


@pytest.mark.parametrize("alias", ["input", "last_hidden"])
def test_an_alias_that_is_kept_for_a_pseudo_layer_is_refused(alias):
    with pytest.raises(ValueError, match=f"another alias of '0' than '{alias}', which is kept"):
        select_layers(nn.Sequential(nn.Linear(2, 2)), {"0": alias})


def test_children_called_as_the_pseudo_layers_are_not_taken_for_them():
    names = ("input", "last_hidden", "output")
    net = nn.Sequential(OrderedDict((name, nn.Linear(2, 2)) for name in names))
    assert select_layers(net) == {"input": "input", "output": "output"}
    assert set(select_layers(net, ["input", "*"])) == {"input", "output"}
    with record_activations(net, ["input", "output"]) as rows:
        net(torch.eye(2))
    assert torch.equal(rows["input"], torch.eye(2))


def test_a_part_of_a_name_is_close_too():
    net = nn.ModuleDict(
        {"net": nn.ModuleDict({"layer1": nn.Linear(2, 2)}), "head": nn.Linear(2, 2)}
    )
    with pytest.raises(ValueError, match=r"Close: 'net\.layer1'\."):
        select_layers(net, "layr1")


def test_a_wrong_name_is_answered_with_the_closest_names_and_all_names():
    with pytest.raises(ValueError, match=r"'net\.00'.*Close: 'net\.0'.*Names: input, last_hidden"):
        select_layers(Wrapped(), ["net.00"])


def test_one_alias_for_several_layers_is_refused():
    with pytest.raises(ValueError, match="alias 'all'"):
        select_layers(Wrapped(), {"net.*": "all"})
    with pytest.raises(ValueError, match="twice"):
        select_layers(Wrapped(), {"net.0": "same", "net.1": "same"})


def test_excluding_everything_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        select_layers(Wrapped(), ["net.0", "!net.*"])


WRAPPERS = {
    "compiled": torch.compile,
    "data parallel": nn.DataParallel,
    "checkpointed": checkpoint_wrapper,
    "averaged": AveragedModel,
    "of Fabric": lambda net: _FabricModule(net, strategy=None),
    "twice": lambda net: torch.compile(nn.DataParallel(net)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_names_and_choice_do_not_change_under_a_wrapper(wrap):
    model = Wrapped()
    plain, chosen = list(named_layers(model)), select_layers(model)
    whole = wrap(Wrapped())
    assert list(named_layers(whole)) == plain
    assert select_layers(whole) == chosen
    model.net = wrap(model.net)
    assert list(named_layers(model)) == plain
    assert select_layers(model) == chosen
    assert named_layers(model)["net"] is model.net


def test_a_child_called_as_a_wrapper_calls_its_own_stays_in_the_name():
    inner, outer = nn.Linear(2, 2), nn.Linear(2, 2)
    for name in ("module", "_orig_mod"):
        model = nn.ModuleDict({"net": nn.ModuleDict({name: nn.ModuleDict({"fc": inner})})})
        model["net"]["fc"] = outer
        names = named_layers(model)
        assert names[f"net.{name}.fc"] is inner
        assert names["net.fc"] is outer


@pytest.mark.parametrize("name", DEPTHS)
def test_auto_finds_the_layers_and_depths_of_the_source_work(name):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None).eval()
    chosen = select_layers(model)
    modules = named_layers(model)
    side = 224 if name.startswith("vit") else 32 if name.startswith("vgg") else 64
    trace = Trace({layer: modules[layer] for layer in chosen if layer in modules})
    with trace.attach(model), torch.no_grad():
        model(torch.zeros(1, 3, side, side, device="meta"))
    assert list(chosen) == ["input", *trace.order]
    assert list(trace.depths.values()) == DEPTHS[name]
    assert trace.relative_depth("input") == 0
    assert trace.relative_depth(trace.order[-1]) == 1
    assert trace.last_linear is list(modules.values())[-1]


def test_auto_takes_the_blocks_of_a_transformer_and_at_most_sixteen_layers():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 30), nn.Linear(8, 2))
    chosen = list(select_layers(model))
    assert len(chosen) == 16
    assert chosen[:2] == ["input", "0.layers.0"]
    assert chosen[-1] == "1"


def test_layers_that_are_given_the_same_tensor_count_once():
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.shortcut = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(self.a(x)) + self.shortcut(x)

    model = nn.Sequential(Residual(), nn.Linear(4, 2))
    trace = Trace({"0": model[0], "1": model[1]})
    with trace.attach(model):
        model(torch.zeros(1, 4))
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
    trace = Trace(named_layers(model))
    with trace.attach(model):
        model(torch.zeros(2, 4, dtype=torch.long))
    assert trace.depths == {
        "embedding": 0, "norm": 0, "first": 1, "scale": 1, "rnn": 4, "both": 5, "head": 6
    }  # fmt: skip
    assert trace.last_linear is model.head
    assert trace.relative_depth("last_hidden") == 5 / 6


def test_the_order_is_that_of_execution_and_not_of_registration():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.second(self.first(x))

    model = Backwards()
    trace = Trace(named_layers(model))
    with trace.attach(model):
        model(torch.zeros(1, 4))
    assert trace.order == ["first", "second"]
    assert trace.last_linear is model.second
    assert not model.first._forward_hooks
