"""The network of Ansuini et al. (2019), and that of the study with width, depth and dropout."""

import torch
from torch import nn

from lightning_id.experiments.networks import MNISTNet, StudyNet

FEATURES = {
    "conv1": 32 * 26 * 26,
    "pool1": 5408,
    "conv2": 64 * 11 * 11,
    "pool2": 1600,
    "d1": 128,
    "output": 10,
}


def outputs_by_name(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    outputs = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda m, i, out, name=name: outputs.update({name: out}))
    network(x)
    return outputs


def test_the_named_layers_have_the_widths_of_the_paper():
    outputs = outputs_by_name(MNISTNet(), torch.randn(2, 1, 28, 28))
    assert {name: out.flatten(1).shape[1] for name, out in outputs.items()} == FEATURES
    assert list(outputs) == list(FEATURES)


def test_pooling_and_d1_are_after_the_relu_and_the_convolutions_before_it():
    outputs = outputs_by_name(MNISTNet(), torch.randn(2, 1, 28, 28))
    assert {name for name, out in outputs.items() if out.min() >= 0} == {"pool1", "pool2", "d1"}


def test_pool1_is_the_relu_of_the_pooled_conv1():
    outputs = outputs_by_name(MNISTNet(), torch.randn(2, 1, 28, 28))
    assert torch.equal(outputs["pool1"], nn.functional.max_pool2d(outputs["conv1"], 2).clamp(min=0))


def test_the_network_has_as_many_parameters_as_that_of_the_paper():
    # conv1 320, conv2 18496, fc1 204928, fc2 1290
    assert sum(p.numel() for p in MNISTNet().parameters()) == 320 + 18496 + 204928 + 1290


def test_no_layer_changes_in_training_mode():
    network, x = MNISTNet(), torch.randn(2, 1, 28, 28)
    assert torch.equal(network.train()(x), network.eval()(x))


def test_width_multiplies_and_depth_adds_hidden_layers():
    net = StudyNet(width=2, depth=3, dropout=0.25)
    widths = [m.out_features for m in net.modules() if isinstance(m, nn.Linear)]
    assert widths == [128, 128, 128, 10]
    assert (net.conv1.out_channels, net.conv2.out_channels) == (16, 32)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.25] * 3
