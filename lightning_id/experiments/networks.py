"""Networks of the experiments, with every layer worth measuring under a name of its own."""

from collections import OrderedDict

import torch
from torch import nn


class NamedLayers(nn.Sequential):
    """Layers by name, in the layout in which a CPU trains convolutions 1.7 times as fast."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__(OrderedDict(layers))
        self.to(memory_format=torch.channels_last)


class MNISTNet(NamedLayers):
    """The MNIST network of Ansuini et al. (2019): two convolutions, two fully connected layers.

    Maps images `(b, 1, 28, 28)` to logits `(b, 10)`. The submodules are the layers measured in
    the paper, besides the input of 784 pixels, so each can be hooked by its exact name:

    | name     | output per image                          | features |
    |----------|-------------------------------------------|----------|
    | `conv1`  | 32 x 26 x 26, before pooling and ReLU     | 21632    |
    | `pool1`  | 32 x 13 x 13, after pooling and ReLU      | 5408     |
    | `conv2`  | 64 x 11 x 11, before pooling and ReLU     | 7744     |
    | `pool2`  | 64 x 5 x 5, after pooling and ReLU        | 1600     |
    | `d1`     | 128, after ReLU: the last hidden layer    | 128      |
    | `output` | logits                                    | 10       |

    One difference from the original, which ends in a log-softmax and trains it with the negative
    log-likelihood: this network ends in the logits, for the cross entropy. Loss and gradients are
    the same, but `output` is measured before the log-softmax, which takes away one direction: the
    common offset of the ten logits. As there, the initial weights are PyTorch's default, and there
    is no dropout and no batch norm.

    Reference: A. Ansuini, A. Laio, J. H. Macke, D. Zoccolan, "Intrinsic dimension of data
    representations in deep neural networks", NeurIPS 2019.

    Example:
        >>> import torch
        >>> net = MNISTNet()
        >>> net(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
        >>> list(dict(net.named_children()))
        ['conv1', 'pool1', 'conv2', 'pool2', 'd1', 'output']
    """

    def __init__(self) -> None:
        super().__init__(
            conv1=nn.Conv2d(1, 32, kernel_size=3),
            pool1=nn.Sequential(nn.MaxPool2d(2), nn.ReLU()),
            conv2=nn.Conv2d(32, 64, kernel_size=3),
            pool2=nn.Sequential(nn.MaxPool2d(2), nn.ReLU()),
            d1=nn.Sequential(nn.Flatten(), nn.Linear(1600, 128), nn.ReLU()),
            output=nn.Linear(128, 10),
        )


class StudyNet(NamedLayers):
    """Two convolutions and as many hidden layers as wanted, of any width.

    Maps images `(b, 1, 28, 28)` to logits `(b, 10)`. `width` multiplies channels (8 and 16) and
    hidden units (64); `depth` is the number of hidden layers, at least 1, each with `dropout`.

    Example:
        >>> list(dict(StudyNet(depth=2).named_children()))
        ['conv1', 'pool1', 'conv2', 'pool2', 'hidden1', 'hidden2', 'output']
        >>> StudyNet(width=0.5).output.in_features
        32
    """

    def __init__(self, width: int | float = 1, depth: int = 1, dropout: int | float = 0) -> None:
        first, second, units = (max(1, round(width * size)) for size in (8, 16, 64))
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(1, first, kernel_size=3),
            "pool1": nn.Sequential(nn.MaxPool2d(2), nn.ReLU()),
            "conv2": nn.Conv2d(first, second, kernel_size=3),
            "pool2": nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()),
        }
        inputs = second * 5 * 5  # pixels after the second pooling
        for number in range(1, depth + 1):
            layers[f"hidden{number}"] = nn.Sequential(
                nn.Linear(inputs, units), nn.ReLU(), nn.Dropout(dropout)
            )
            inputs = units
        layers["output"] = nn.Linear(inputs, 10)
        super().__init__(**layers)
