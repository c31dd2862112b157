"""Modules: names without wrappers, layers with weights, and modules that are never called."""

import warnings

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from lightning_id.recording.modules import (
    called_module,
    is_container,
    is_linear,
    is_metric,
    named_layers,
    only_child,
    unwrapped,
    watched_modules,
    weight_layers,
    why_never_called,
)


class Shown(nn.Module):
    """A module with a forward of its own around others."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def test_a_child_called_as_a_wrapper_calls_its_own_stays_in_the_name():
    inner, outer = nn.Linear(2, 2), nn.Linear(2, 2)
    for name in ("module", "_orig_mod"):
        model = nn.ModuleDict({"net": nn.ModuleDict({name: nn.ModuleDict({"fc": inner})})})
        model["net"]["fc"] = outer
        names = named_layers(model)
        assert names[f"net.{name}.fc"] is inner
        assert names["net.fc"] is outer


def test_wrappers_are_taken_off_whatever_their_order():
    inner = nn.Linear(2, 2)
    assert unwrapped(nn.DataParallel(torch.compile(inner))) is inner
    assert unwrapped(inner) is inner


@pytest.mark.parametrize(
    ("module", "layers"),
    [
        (nn.Linear(2, 3), 1),
        (nn.Conv2d(2, 3, 1), 1),
        (nn.LSTM(2, 3, num_layers=4), 4),
        (nn.Embedding(5, 2), 0),
        (nn.LayerNorm((2, 2)), 0),
        (nn.Sequential(nn.Linear(2, 3)), 0),  # its children count
        (nn.ReLU(), 0),
    ],
    ids=str,
)
def test_layers_with_a_weight_matrix_are_counted_without_children(module, layers):
    assert weight_layers(module) == layers


def test_a_linear_of_another_package_is_known_by_its_parameters():
    class Dense(nn.Module):
        def __init__(self, *shape):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.ones(2))

    assert is_linear(nn.Linear(2, 2))
    assert is_linear(Dense(2, 2))
    assert not is_linear(Dense(2, 2, 2))
    assert not is_linear(nn.Embedding(3, 2))
    assert not is_linear(nn.Sequential(nn.Linear(2, 2)))


def test_containers_are_modules_without_a_forward_of_their_own():
    assert is_container(nn.ModuleList([nn.Linear(2, 2)]))
    assert is_container(nn.ModuleDict({"a": nn.Linear(2, 2)}))
    assert not is_container(nn.Sequential(nn.Linear(2, 2)))
    assert not is_container(Shown(nn.Linear(2, 2)))


def test_metrics_and_scripts_are_not_followed_by_hooks():
    net = nn.ModuleDict({"fc": nn.Linear(2, 2), "accuracy": MulticlassAccuracy(3)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is old
        net["script"] = torch.jit.script(nn.Sequential(nn.Linear(2, 2)))
    assert is_metric(net["accuracy"])
    assert watched_modules(net) == [net, net["fc"]]


def test_the_only_child_is_the_one_with_parameters():
    assert only_child(nn.ModuleDict({"net": nn.Linear(2, 2), "loss": nn.MSELoss()})) == "net"
    assert only_child(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})) is None
    assert only_child(nn.ReLU()) is None


def test_the_output_of_a_sequential_is_that_of_its_last_module_unless_it_stands_elsewhere():
    last = nn.ReLU()
    net = nn.ModuleDict({"head": nn.Sequential(nn.Linear(2, 2), last)})
    assert called_module(net, net["head"]) is last
    net["again"] = last
    assert called_module(net, net["head"]) is net["head"]


def test_the_likely_reason_of_a_module_that_is_not_called():
    layer = nn.TransformerEncoderLayer(4, 2, 8)
    net = nn.ModuleDict({"list": nn.ModuleList([nn.Linear(2, 2)]), "block": layer})
    assert why_never_called(net, net["list"]).startswith("ModuleList has no forward of its own")
    assert "a fused kernel" in why_never_called(net, layer.linear1)
    assert "name one that the validation step runs" in why_never_called(net, net["list"][0])
