"""Families of small networks for grey images of 28 pixels, of several depths and widths."""

from collections.abc import Sequence

from torch import nn
from torchvision.models.resnet import BasicBlock

from lightning_id.experiments.networks import NamedLayers


class MLP(NamedLayers):
    """Fully connected layers of `width`, `depth` of them hidden.

    Example:
        >>> list(dict(MLP(depth=2).named_children()))
        ['flat', 'hidden1', 'hidden2', 'output']
    """

    def __init__(self, width: int = 128, depth: int = 1) -> None:
        layers: dict[str, nn.Module] = {"flat": nn.Flatten()}
        for number, inputs in enumerate([784] + [width] * (depth - 1), start=1):
            layers[f"hidden{number}"] = nn.Sequential(nn.Linear(inputs, width), nn.ReLU())
        layers["output"] = nn.Linear(width, 10)
        super().__init__(**layers)


class LeNet(NamedLayers):
    """LeNet-5 with ReLU and max pooling; `width` multiplies channels and units."""

    def __init__(self, width: int | float = 1) -> None:
        c1, c2, f1, f2 = (max(1, round(width * size)) for size in (6, 16, 120, 84))
        super().__init__(
            conv1=_conv(1, c1, 5, padding=2),
            pool1=nn.MaxPool2d(2),
            conv2=_conv(c1, c2, 5, padding=0),
            pool2=nn.MaxPool2d(2),
            fc1=nn.Sequential(nn.Flatten(), nn.Linear(25 * c2, f1), nn.ReLU()),
            fc2=nn.Sequential(nn.Linear(f1, f2), nn.ReLU()),
            output=nn.Linear(f2, 10),
        )


class AlexNet(NamedLayers):
    """Five convolutions, the first with a stride, and two hidden layers with dropout."""

    def __init__(self, width: int | float = 1, dropout: float = 0.5) -> None:
        a, b, c, units = (max(1, round(width * size)) for size in (32, 48, 64, 128))
        super().__init__(
            conv1=_conv(1, a, 5, padding=2, stride=2),
            conv2=_conv(a, b, 5, padding=2),
            pool2=nn.MaxPool2d(2),
            conv3=_conv(b, c),
            conv4=_conv(c, c),
            conv5=_conv(c, b),
            pool5=nn.MaxPool2d(2),
            fc1=nn.Sequential(
                nn.Flatten(), nn.Dropout(dropout), nn.Linear(9 * b, units), nn.ReLU()
            ),
            fc2=nn.Sequential(nn.Dropout(dropout), nn.Linear(units, units), nn.ReLU()),
            output=nn.Linear(units, 10),
        )


class VGG(NamedLayers):
    """Three blocks of convolutions of 3 pixels with pooling, and two hidden layers.

    Args:
        convs: Convolutions of each block.
        width: Channels of the first block; the others have two and four times as many.
        batch_norm: Whether each convolution has batch norm.
    """

    def __init__(
        self, convs: Sequence[int] = (1, 1, 1), width: int = 16, batch_norm: bool = False
    ) -> None:
        layers: dict[str, nn.Module] = {}
        inputs = 1
        for block, count in enumerate(convs, start=1):
            channels = width * 2 ** (block - 1)
            for number in range(1, count + 1):
                layers[f"conv{block}_{number}"] = _conv(inputs, channels, batch_norm=batch_norm)
                inputs = channels
            layers[f"pool{block}"] = nn.MaxPool2d(2)
        units = 128
        pixels = (28 >> len(convs)) ** 2
        layers["fc1"] = nn.Sequential(nn.Flatten(), nn.Linear(pixels * inputs, units), nn.ReLU())
        layers["fc2"] = nn.Sequential(nn.Linear(units, units), nn.ReLU())
        layers["output"] = nn.Linear(units, 10)
        super().__init__(**layers)


class VGGBN(VGG):
    """`VGG` with batch norm."""

    def __init__(self, convs: Sequence[int] = (1, 1, 1), width: int = 16) -> None:
        super().__init__(convs, width, batch_norm=True)


class ResNet(NamedLayers):
    """Three stages of residual blocks, and the mean over the pixels.

    Args:
        blocks: Residual blocks of each stage, of two convolutions.
        width: Channels of the first stage; the others have two and four times as many.
    """

    def __init__(self, blocks: Sequence[int] = (1, 1, 1), width: int = 16) -> None:
        layers: dict[str, nn.Module] = {"stem": _conv(1, width, batch_norm=True)}
        inputs = width
        for stage, count in enumerate(blocks, start=1):
            channels = width * 2 ** (stage - 1)
            several: list[nn.Module] = []
            for number in range(count):
                stride = 2 if stage > 1 and number == 0 else 1
                block = BasicBlock(inputs, channels, stride)
                if stride > 1 or inputs != channels:
                    block.downsample = nn.Conv2d(inputs, channels, 1, stride, bias=False)
                several.append(block)
                inputs = channels
            layers[f"stage{stage}"] = nn.Sequential(*several)
        layers["mean"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        layers["output"] = nn.Linear(inputs, 10)
        super().__init__(**layers)


def _conv(
    inputs: int,
    channels: int,
    size: int = 3,
    padding: int = 1,
    stride: int = 1,
    batch_norm: bool = False,
) -> nn.Sequential:
    norm = [nn.BatchNorm2d(channels)] if batch_norm else []
    conv = nn.Conv2d(inputs, channels, size, stride, padding, bias=not batch_norm)
    return nn.Sequential(conv, *norm, nn.ReLU())
