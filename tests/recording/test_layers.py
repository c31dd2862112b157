"""The layers that are chosen by name, pattern or `auto`."""

from collections import OrderedDict

import pytest
import torch
from lightning_fabric.wrappers import _FabricModule
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from lightning_id import record_activations
from lightning_id.recording.layers import is_automatic, select_layers
from lightning_id.recording.modules import named_layers


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


def test_auto_takes_the_blocks_of_a_transformer_and_at_most_sixteen_layers():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 30), nn.Linear(8, 2))
    chosen = list(select_layers(model))
    assert len(chosen) == 16
    assert chosen[:2] == ["input", "0.layers.0"]
    assert chosen[-1] == "1"


def test_a_broken_expression_and_modules_in_place_of_names_are_answered():
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"expression after 're:', got 're:\('"):
        select_layers(net, "re:(")
    with pytest.raises(ValueError, match=r"`layers`: expected names, got .*modules have names"):
        is_automatic([net[0]])
