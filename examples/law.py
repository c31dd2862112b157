"""High points of D sqrt(N), for the Kolmogorov-Smirnov distance D of neighbour ratios.

D is the distance from the law of the dimension that is fitted to them, so tables of Kolmogorov and
Smirnov do not hold; and ratios of neighbours share points, so neither do tables for independent
ones. Rows are uniform in a cube with opposite sides joined, without borders and bends: the law of
TwoNN holds but for the shared points.

    python examples/law.py --samples 2000
"""

import argparse
import math

import numpy as np
from scipy.spatial import cKDTree

DIMENSIONS = (1, 2, 3, 5)
KEPT = 0.9  # share of the smallest ratios that is fitted


def distance(log_ratios: np.ndarray, method: str) -> float:
    """Return D sqrt(N) of the ratios from the law that a method fits."""
    log_ratios, n = np.sort(log_ratios), len(log_ratios)
    fitted = log_ratios[: math.floor(KEPT * n)]
    if method == "linear":
        y = -np.log1p(-np.arange(1, len(fitted) + 1) / n)
        d = (fitted * y).sum() / (fitted**2).sum()
    else:
        d = (len(fitted) - 1) / (fitted.sum() + (n - len(fitted)) * fitted[-1])
    law, steps = -np.expm1(-d * log_ratios), np.arange(1, n + 1) / n
    return max((steps - law).max(), (law - steps + 1 / n).max()) * math.sqrt(n)


def neighbour_log_ratios(n: int, dimension: int, generator: np.random.Generator) -> np.ndarray:
    """Return the log ratios of the two nearest distances of rows in a periodic cube."""
    rows = generator.random((n, dimension))
    distances = cKDTree(rows, boxsize=1.0).query(rows, k=3)[0]
    return np.log(distances[:, 2] / distances[:, 1])


def upper_points(n: int, n_samples: int, method: str, share: float = 0.01) -> dict[str, float]:
    """Return what a share of D sqrt(N) is above, by dimension and of independent ratios."""
    generator = np.random.default_rng(0)
    found = {
        str(d): [distance(neighbour_log_ratios(n, d, generator), method) for _ in range(n_samples)]
        for d in DIMENSIONS
    }
    found["independent"] = [
        distance(generator.exponential(size=n), method) for _ in range(n_samples)
    ]
    return {name: float(np.quantile(values, 1 - share)) for name, values in found.items()}


def main(arguments: list[str] | None = None) -> None:
    """Print the points for both fits and growing numbers of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rows", type=int, nargs="+", default=[50, 100, 200, 500, 1000, 2000])
    options = parser.parse_args(arguments)
    for method in ("linear", "mle"):
        for n in options.rows:
            for share in (0.01, 0.0005):
                points = upper_points(n, options.samples, method, share)
                named = (f"{name}: {point:.2f}" for name, point in points.items())
                print(method, n, f"{share:.2%}", *named)


if __name__ == "__main__":
    main()
