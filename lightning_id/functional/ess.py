"""Expected simplex skewness: the dimension read from above, from angles within local patches."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_id.functional.estimate import Estimate
from lightning_id.functional.geometry import Geometry, geometry_of
from lightning_id.functional.precision import exact_arithmetic
from lightning_id.functional.ranking import rank

# A patch is read off the Gram matrix where the error bound of its distances is below this share of
# its squared radius; the error itself is some fifty times smaller than the bound.
_TOLERANCE = 1e-2
_PATCH_SHARE = 0.1  # of the rows, from which on a patch is no neighbourhood
_CLOUD_SHARE = 0.9  # of the root mean square radius of the cloud, the same
_ELEMENTS = 2**18  # products, that stay in the cache of a CPU
_NEWTON_STEPS = 3  # reach float64 from a start that is right to 0.5 %


def ess_dimension(
    x: Tensor | Geometry, k: int = 100, n_anchors: int = 200, seed: int = 0
) -> Estimate:
    r"""Return the dimension of the rows of ``x`` by the expected simplex skewness of local patches.

    A patch is an anchor and its k nearest rows. With the rows of a patch relative to their mean,
    the areas of the parallelograms that pairs of them span are summed and divided by the sum of
    the areas that right angles would give. Of directions uniform in d dimensions that ratio is

    .. math:: s(d) = \frac{\Gamma(d / 2)^2}{\Gamma((d + 1) / 2) \, \Gamma((d - 1) / 2)} ,

    the expected sine of the angle between two of them. The estimate is the mean over the patches of
    the inverse of s. All pairs of a patch enter; only the anchors are drawn.

    TwoNN is too low above about 20, because no sample is dense there; this estimator reads balls,
    cubes, spheres and Gaussians within 4 %: of 20 to 200 dimensions from 500 rows on, of 2 and 3
    with k = 20 and of 5 with k = 10 from 2000 rows on. Patches that a border cuts are too low: with
    k = 100 by 6 % in a cube of 5 dimensions, at any k by 7 % in one of 10, where no patch is off
    the border; patches inside are right to 1 %. It is **too high where the
    rows bend within a patch**: a surface that bends in all directions counts up to twice (flat
    torus: 39 for 20). So the two bracket the dimension. It does not see noise much below the radius
    of a patch. On some hundred rows a patch is no neighbourhood, and the number nears the
    participation ratio: see ``note``.

    The error bar is that of the mean over the anchors, with the samples allowed for that patches
    share; over balls, spheres, Gaussians, mixtures and MNIST it is 0.8 to 1.25 of the deviation
    over fresh samples, and far too large where the shares of parts of other dimensions are fixed.
    Equal rows count as one point.

    Source: Johnsson, Soneson, Fontes, IEEE TPAMI 37, 196 (2015).

    Args:
        x: (n, d) rows, n > k, of any floating dtype on any device, or a `Geometry` made from them.
        k: Neighbours in a patch, from 3. More lower the largest dimension that can be seen less:
            d is read as 1 / (1 / d + 1 / k²).
        n_anchors: Patches, A; all distinct rows are anchors where there are no more.
        seed: Seed of the private generator that draws the anchors.

    Returns:
        The dimension (not rounded), at least 1, standard error, 95 % interval and counts;
        ``n_used`` counts the rows in any patch. NaN with a reason for not more than k distinct
        rows, NaN or infinite values.

    Raises:
        ValueError: If ``x`` is no dense floating (n, d) tensor, or an argument is out of its range.

    Example:
        >>> from lightning_id import manifolds
        >>> from lightning_id.functional import ess_dimension, twonn_dimension
        >>> x = manifolds.gaussian(2000, 50)
        >>> print(f"{float(twonn_dimension(x)):.0f} to {float(ess_dimension(x)):.0f}")
        33 to 50
    """
    if k < 3:
        raise ValueError(f"`k`: expected at least 3, got {k}")
    if n_anchors < 2:
        raise ValueError(f"`n_anchors`: expected at least 2, got {n_anchors}")
    geometry = geometry_of(x)
    estimate = geometry.estimate_of_order(k)
    if estimate.reason is not None:
        return estimate
    with exact_arithmetic(geometry.x.device):
        generator = torch.Generator("cpu").manual_seed(seed)  # on all devices the same anchors
        order = torch.randperm(len(geometry.distinct), generator=generator, device="cpu")
        anchors = order[:n_anchors].sort().values.to(geometry.x.device)
        patches = _patches(geometry, anchors, k)
    values = skewness_dimension(patches.skewness.cpu())
    return estimate.with_value(
        float(values.mean()),
        _std_error(values, patches),
        n_used=int(torch.bincount(patches.members.flatten()).count_nonzero()),
        note=_note(geometry, patches, k),
    )


def skewness(dimension: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the expected sine of the angle between two random directions of a dimension."""
    gammas = [torch.lgamma((dimension + shift) / 2) for shift in (0, 1, -1)]
    return torch.exp(2 * gammas[0] - gammas[1] - gammas[2])


def skewness_dimension(observed: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the dimension of which the expected sine is observed: 1 for 0, infinite for 1."""
    # s is 1 - 1 / (2 d) - 3 / (8 d²) ..., and 0 at d = 1: both follow from 1 / (2 (1 - s)) =
    # d - 3 / 4 + 1 / (4 d).
    sum_of_roots = 0.75 + 1 / (2 * (1 - observed))
    d = (sum_of_roots + (sum_of_roots.square() - 1).sqrt()) / 2
    for _ in range(_NEWTON_STEPS):
        d = d + (observed - skewness(d)) / _slope(d)
    return torch.where(observed > 0, torch.where(observed < 1, d, math.inf), 1.0)


def _slope(dimension: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the derivative of `skewness`."""
    digammas = [torch.digamma((dimension + shift) / 2) for shift in (0, 1, -1)]
    return skewness(dimension) * (digammas[0] - digammas[1] / 2 - digammas[2] / 2)


@dataclass(frozen=True)
class _Patches:
    """Patches of p rows, and the measures of every one."""

    members: Int[Tensor, "a p"]  # numbers of the rows
    skewness: Float[Tensor, " a"]  # areas over the areas of right angles, R
    influence: Float[Tensor, "a p"]  # of every row on R; it adds up to 0
    pairs2: Float[Tensor, " a"]  # sum over the pairs of the squared influence of a pair on R
    radius2: Float[Tensor, " a"]  # mean squared distance from the mean of the patch

    def put(self, index: Int[Tensor, " b"], others: "_Patches") -> None:
        """Write other patches in the places of some, in place."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(others, field.name)


def _patches(geometry: Geometry, anchors: Int[Tensor, " a"], k: int) -> _Patches:
    """Return the patches about some of the distinct rows: one synchronisation."""
    search = geometry.search
    if not search.proposer.has_products:
        return _exact_patches(geometry, anchors, k)
    gram = geometry.columns.gram
    rows = geometry.distinct[anchors]
    members, radius2 = _nearest(gram, rows, geometry.distinct, k)
    found = _measure(members, _products_of(gram, members))
    bound = search.bound(gram.diagonal()[rows].double(), radius2, gram.dtype)
    certain = bound <= _TOLERANCE * found.skewness.square() * radius2
    doubt = (~certain).nonzero()[:, 0]
    if len(doubt):
        found.put(doubt, _exact_patches(geometry, anchors[doubt], k))
    return found


def _nearest(
    gram: Float[Tensor, "n n"], rows: Int[Tensor, " a"], distinct: Int[Tensor, " m"], k: int
) -> tuple[Int[Tensor, "a p"], Float[Tensor, " a"]]:
    """Return anchors with their k nearest rows, and the largest squared distance of each."""
    if gram.device.type == "cpu":  # numpy takes half the time, but chooses others of equal rows
        half = gram.diagonal() / 2
        others = torch.full_like(half, math.inf).index_copy_(0, distinct, half[distinct])
        scores = gram.index_select(0, rows) - others  # see `rank`
        found = scores.numpy().argpartition(-k - 1)[:, -k - 1 :]
        found.sort()
        members = torch.from_numpy(found).contiguous()
        lowest = scores.gather(1, members).amin(1)
        if int((scores >= lowest[:, None]).sum()) == members.numel():
            return members, 2 * (half[rows].double() - lowest.double())
    distance2, index = rank(gram, rows, None if len(distinct) == len(gram) else distinct, k)
    return torch.cat((rows[:, None], index), dim=1), distance2[:, -1]


def _exact_patches(geometry: Geometry, anchors: Int[Tensor, " a"], k: int) -> _Patches:
    """Return patches of exact neighbours, measured from the rows in float64."""
    index = geometry.neighbors(k).indices.to(anchors.device)[anchors]
    members = geometry.distinct[torch.cat((anchors[:, None], index), dim=1)]
    return _measure(
        members, map(geometry.columns.products_within, torch.split(members, _at_a_time(members)))
    )


def _at_a_time(members: Int[Tensor, "a p"], elements: int | None = None) -> int:
    """Return how many patches make so many products; by default, a cache full, or a GPU's."""
    if elements is None:
        elements = _ELEMENTS if members.device.type == "cpu" else 8 * _ELEMENTS
    return max(1, elements // members.shape[1] ** 2)


def _products_of(
    gram: Float[Tensor, "n n"], members: Int[Tensor, "a p"]
) -> Iterator[Float[Tensor, "t p p"]]:
    """Yield the products within patches, as many patches at a time as stay in the cache."""
    # Row by row of the matrix: patch by patch, most of a row would be read again for every patch
    # that it is in. One index into the flat matrix: on a CPU four times as fast as one of rows and
    # columns, and faster yet in 32 bits.
    flat, size = gram.view(-1), members.shape[1]
    dtype = torch.int32 if len(flat) < 2**31 else torch.int64
    for some in torch.split(members.to(dtype), _at_a_time(members, 8 * _ELEMENTS)):
        rows = some.flatten()
        found = gram.new_empty((len(rows), size))
        for part in torch.split(rows.argsort(), max(1, _ELEMENTS // 4 // size)):
            places = some.index_select(0, part // size).add_((rows[part] * len(gram))[:, None])
            found.index_copy_(0, part, flat.index_select(0, places.view(-1)).view(places.shape))
        yield from torch.split(found.view(len(some), size, size), _at_a_time(members))


def _measure(members: Int[Tensor, "a p"], products: Iterator[Float[Tensor, "t p p"]]) -> _Patches:
    """Return the measures of patches; their products are overwritten."""
    sums = zip(*map(_sums, products), strict=True)
    norm2, sines, residual2 = (torch.cat(parts).double() for parts in sums)
    norm = norm2.sqrt()
    right = norm * (norm.sum(1, keepdim=True) - norm)  # sums of |a| |b| over the others b
    total = right.sum(1)
    area = norm * sines
    skew = area.sum(1) / total
    influence = 2 / total[:, None] * (area - skew[:, None] * right)
    pairs2 = 2 * (norm2 * residual2).sum(1) / total.square()
    return _Patches(members, skew, influence, pairs2, norm2.mean(1))


def _sums(products: Float[Tensor, "t p p"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return squared norms of the centred rows b, and two sums over the other rows a of a patch.

    The area of a pair is |b| z, :math:`z^2 = |a|^2 - (a b / |b|)^2`; its squares stay in range. The
    sums are of z and of the squares of z - R |a|, R the skewness.
    """
    mean = products.mean(2)
    shift = mean - mean.mean(1, keepdim=True)
    norm2 = (products.diagonal(dim1=1, dim2=2) - mean - shift).clamp_min_(0)
    norm = norm2.sqrt()
    inverse = norm.reciprocal().masked_fill_(norm == 0, 0)  # a row at the mean spans no area
    products -= mean[:, :, None]
    along = (-shift * inverse)[:, None, :].addcmul(products, inverse[:, None, :])
    z = torch.addcmul(norm2[:, :, None], along, along, value=-1, out=along)
    z = z.clamp_min_(0).sqrt_()
    own = z.diagonal(dim1=1, dim2=2)
    own.zero_()
    sines = z.sum(1)
    skew = (norm * sines).sum(1) / (norm.sum(1).square() - norm2.sum(1))
    z -= (skew[:, None] * norm)[:, :, None]
    own.zero_()
    return norm2, sines, z.square_().sum(1)


def _std_error(values: Float[Tensor, " a"], patches: _Patches) -> float:
    """Return the standard error of the mean over patches that share rows.

    The influence of a row adds up over the patches that it is in. In patches without a preferred
    direction it is made of the pairs alone, and its square counts every pair twice: that is taken
    off, for what patches i and j share with the share of the pairs of i that are in j. Patches of
    different dimensions add the variance between anchors.
    """
    members = patches.members.cpu()
    n_patches, size = members.shape
    slope = 1 / _slope(values)
    influence = patches.influence.cpu() * slope[:, None]
    pairs2 = patches.pairs2.cpu() * slope.square()
    of_rows = torch.bincount(members.flatten(), influence.flatten() / n_patches)
    inside = torch.zeros((len(of_rows), n_patches), dtype=torch.float32, device="cpu")
    inside[members, torch.arange(n_patches, device="cpu")[:, None]] = 1
    shared = torch.nn.functional.embedding_bag(members, inside, mode="sum").double()
    alike = shared * (shared - 1) / (size * (size - 1))
    deviation = pairs2.sqrt()
    counted_twice = float(deviation @ alike @ deviation) / n_patches**2
    rows2 = float(of_rows.square().sum())
    within = pairs2 + (influence.square().sum(1) - 2 * pairs2).clamp_min(0)
    between = max(0.0, float(values.var() - within.mean())) / n_patches
    return math.sqrt(max(rows2 - counted_twice, rows2 / 2) + between)


def _note(geometry: Geometry, patches: _Patches, k: int) -> str | None:
    """Return what a reader should know where a patch is no neighbourhood."""
    n = len(geometry.distinct)
    if k + 1 > _PATCH_SHARE * n:
        return (
            f"a patch of {k + 1} is more than a tenth of the {n} distinct rows: bends within it"
            " count, and the number nears the participation ratio"
        )
    cloud2 = float(geometry.search.proposer.norm2.double().mean())
    radius = math.sqrt(float(patches.radius2.mean()) / cloud2)
    if radius > _CLOUD_SHARE:
        return (
            f"a patch of {k + 1} is {radius:.0%} as wide as the whole cloud: bends within it count,"
            " and the number nears the participation ratio"
        )
    return None
