"""Convolutional networks for small images, whose layers `auto` picks without help."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class VGG(nn.Sequential):
    """A VGG with batch normalisation: blocks of 3 x 3 convolutions and a pooling, then Linears.

    Maps images `(b, in_channels, size, size)` to logits `(b, num_classes)`. The submodules are
    `conv1`, `pool1`, ... for every block, `fc1`, `fc2`, ... with their ReLU, and `output`.

    Args:
        blocks: Output channels of the convolutions of every block; a pooling halves the image
            after each. The default is VGG-16 (Simonyan and Zisserman, ICLR 2015).
        hidden: Units of the fully connected layers before the output.
        in_channels: 1 for grey images, 3 for colour.
        size: Pixels of a side.
        num_classes: Number of logits.
        dropout: Share of the units of `fc1`, `fc2`, ... that is dropped in training.

    Example:
        >>> list(dict(VGG([[8, 8], [16, 16]], [32], in_channels=1, size=28).named_children()))
        ['conv1', 'pool1', 'conv2', 'pool2', 'fc1', 'output']
    """

    def __init__(
        self,
        blocks: Sequence[Sequence[int]] = (
            (64, 64),
            (128, 128),
            (256, 256, 256),
            (512, 512, 512),
            (512, 512, 512),
        ),
        hidden: Sequence[int] = (512, 512),
        in_channels: int = 3,
        size: int = 32,
        num_classes: int = 10,
        dropout: int | float = 0.0,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for number, widths in enumerate(blocks, start=1):
            convolutions: list[nn.Module] = []
            for width in widths:
                convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
                convolutions += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers[f"conv{number}"] = nn.Sequential(*convolutions)
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            size //= 2
        units = channels * size * size
        for number, width in enumerate(hidden, start=1):
            flatten = [nn.Flatten()] if number == 1 else []
            linear = [nn.Linear(units, width), nn.ReLU(), nn.Dropout(dropout)]
            layers[f"fc{number}"] = nn.Sequential(*flatten, *linear)
            units = width
        layers["output"] = nn.Linear(units, num_classes)
        super().__init__(layers)


class SmallResNet18(ResNet):  # type: ignore[misc]
    """ResNet-18 of torchvision for images of 32 pixels: a 3 x 3 stem and no pooling after it.

    Maps images `(b, 3, 32, 32)` to logits `(b, num_classes)`.

    Args:
        num_classes: Number of logits.

    Example:
        >>> SmallResNet18().conv1.stride
        (1, 1)
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        self.maxpool = nn.Identity()
