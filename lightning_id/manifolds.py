"""Point clouds of known dimension, for tests, doctests and examples.

Every function takes the number of rows ``n``, the dimension, the number of columns ``ambient`` and
the ``seed`` of a generator of its own, and returns float32 rows (n, ambient). Without ``ambient`` a
cloud lies in the space it naturally lives in; with it, that space is turned at random inside as
many columns, which changes no distance. That space has ``dimension`` columns; one more for a
sphere, a Swiss roll and a mixture (of its largest ball); twice as many for a torus.

Example:
    >>> gaussian(100, dimension=3, ambient=20).shape
    torch.Size([100, 20])
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "n ambient"]


def gaussian(n: int, dimension: int = 5, ambient: int | None = None, seed: int = 0) -> Points:
    """Draw from the standard normal law; with ``ambient``, on a linear subspace."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return _embed(_normal(n, dimension, generator), ambient, generator)


def ball(n: int, dimension: int = 5, ambient: int | None = None, seed: int = 0) -> Points:
    """Draw uniformly from the ball of radius 1."""
    generator = torch.Generator("cpu").manual_seed(seed)
    directions = _directions(n, dimension, generator)
    radii = _uniform(n, 1, generator) ** (1 / dimension)
    return _embed(radii * directions, ambient, generator)


def sphere(n: int, dimension: int = 2, ambient: int | None = None, seed: int = 0) -> Points:
    """Draw uniformly from the sphere of radius 1; dimension 2 is the surface of a globe."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return _embed(_directions(n, dimension + 1, generator), ambient, generator)


def torus(n: int, dimension: int = 2, ambient: int | None = None, seed: int = 0) -> Points:
    """Draw uniformly from the flat torus, a product of ``dimension`` circles of radius 1."""
    generator = torch.Generator("cpu").manual_seed(seed)
    angles = 2 * math.pi * _uniform(n, dimension, generator)
    return _embed(torch.cat((angles.cos(), angles.sin()), dim=1), ambient, generator)


def swiss_roll(n: int, dimension: int = 2, ambient: int | None = None, seed: int = 0) -> Points:
    """Draw uniformly from a rolled-up sheet: a spiral of 1.5 turns times a flat cube."""
    generator = torch.Generator("cpu").manual_seed(seed)
    # Along r = t the length grows nearly as t²: drawing t² uniformly is uniform on the sheet.
    low, high = (1.5 * math.pi) ** 2, (4.5 * math.pi) ** 2
    t = (low + (high - low) * _uniform(n, 1, generator)).sqrt()
    flat = 20 * _uniform(n, dimension - 1, generator)
    return _embed(torch.cat((t * t.cos(), t * t.sin(), flat), dim=1), ambient, generator)


def linear_subspace(
    n: int, dimension: int = 5, ambient: int | None = None, seed: int = 0
) -> Points:
    """Draw from a normal law of variances from 1 to 1/2; by default in twice as many columns."""
    generator = torch.Generator("cpu").manual_seed(seed)
    scale = torch.linspace(1, 0.5, dimension, dtype=torch.float64, device="cpu").sqrt()
    ambient = 2 * dimension if ambient is None else ambient
    return _embed(_normal(n, dimension, generator) * scale, ambient, generator)


def mixture(
    n: int, dimension: Sequence[int] = (2, 20), ambient: int | None = None, seed: int = 0
) -> Points:
    """Draw equal shares from balls of several dimensions, far apart, one ball after the other."""
    generator = torch.Generator("cpu").manual_seed(seed)
    width = max(dimension) + 1
    points = torch.zeros((n, width), dtype=torch.float64, device="cpu")
    for i, (rows, d) in enumerate(
        zip(torch.arange(n, device="cpu").tensor_split(len(dimension)), dimension, strict=True)
    ):
        radii = _uniform(len(rows), 1, generator) ** (1 / d)
        points[rows, :d] = radii * _directions(len(rows), d, generator)
        points[rows, -1] = 10.0 * i
    return _embed(points, ambient, generator)


def _normal(n: int, d: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
    return torch.randn(n, d, generator=generator, dtype=torch.float64, device="cpu")


def _uniform(n: int, d: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
    return torch.rand(n, d, generator=generator, dtype=torch.float64, device="cpu")


def _directions(n: int, d: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
    return torch.nn.functional.normalize(_normal(n, d, generator), dim=1)


def _embed(points: Float[Tensor, "n d"], ambient: int | None, generator: torch.Generator) -> Points:
    natural = points.shape[1]
    if ambient is None:
        return points.float()
    if ambient < natural:
        raise ValueError(f"`ambient`: expected at least {natural} columns, got {ambient}")
    axes: Tensor = torch.linalg.qr(_normal(ambient, natural, generator)).Q
    return (points @ axes.T).float()
