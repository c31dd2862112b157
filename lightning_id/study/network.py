"""The network of the study: two convolutions and as many hidden layers as wanted, of any width."""

from collections import OrderedDict

import torch
from torch import nn

CHANNELS = 8, 16  # of the two convolutions at width 1
HIDDEN = 64  # units of a hidden layer at width 1
_MAP = 5 * 5  # pixels after the second pooling


class StudyNet(nn.Sequential):
    """Map images `(b, 1, 28, 28)` to logits `(b, 10)`.

    `width` multiplies channels and units of all layers but the output; `depth` is the number of
    hidden layers, at least 1, each with `dropout`.

    Example:
        >>> list(dict(StudyNet(depth=2).named_children()))
        ['conv1', 'pool1', 'conv2', 'pool2', 'hidden1', 'hidden2', 'output']
        >>> StudyNet(width=0.5).output.in_features
        32
    """

    def __init__(self, width: int | float = 1, depth: int = 1, dropout: int | float = 0) -> None:
        first, second, units = (max(1, round(width * size)) for size in (*CHANNELS, HIDDEN))
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(1, first, kernel_size=3),
            pool1=nn.Sequential(nn.MaxPool2d(2), nn.ReLU()),
            conv2=nn.Conv2d(first, second, kernel_size=3),
            pool2=nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()),
        )
        inputs = second * _MAP
        for number in range(1, depth + 1):
            layers[f"hidden{number}"] = nn.Sequential(
                nn.Linear(inputs, units), nn.ReLU(), nn.Dropout(dropout)
            )
            inputs = units
        layers["output"] = nn.Linear(inputs, 10)
        super().__init__(layers)
        # On a CPU the convolutions train faster in this layout; the values are the same.
        self.to(memory_format=torch.channels_last)
