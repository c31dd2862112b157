"""Networks for small images: the layers that are picked, in order, and the shapes between them."""

import pytest
import torch

from lightning_id.experiments.convnets import VGG, SmallResNet18
from lightning_id.recording import auto_layers


def n_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_default_vgg_has_the_13_convolutions_of_vgg16():
    convolutions = [m for m in VGG().modules() if isinstance(m, torch.nn.Conv2d)]
    widths = [64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    assert [m.out_channels for m in convolutions] == widths


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (VGG(), (2, 3, 32, 32)),
        (VGG([[8, 8], [16, 16], [32, 32]], [64, 32], in_channels=1, size=28), (2, 1, 28, 28)),
        (SmallResNet18(), (2, 3, 32, 32)),
    ],
)
def test_a_network_maps_images_to_logits(network, shape):
    assert network(torch.zeros(shape)).shape == (2, 10)


def test_the_stem_of_the_small_resnet_keeps_the_size_of_the_image():
    network = SmallResNet18()
    stem = network.layer1(
        network.maxpool(network.relu(network.bn1(network.conv1(torch.zeros(1, 3, 32, 32)))))
    )
    assert stem.shape == (1, 64, 32, 32)
    assert n_parameters(network) == 11_173_962  # the count published for this variant on CIFAR-10


def test_auto_picks_blocks_and_fully_connected_layers_of_a_vgg():
    network = VGG([[8, 8], [16, 16]], [64, 32], in_channels=1, size=28)
    layers = ["input", "conv1", "pool1", "conv2", "pool2", "fc1.1", "fc2.0", "output"]
    assert auto_layers(network) == layers
