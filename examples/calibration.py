"""Calibration of the error bars on many fresh samples of clouds of known dimension.

For each cloud and estimator: the mean estimate, its true standard deviation over the samples, the
mean reported standard error over that deviation (1 is correct, 0.5 is too small by half), and the
share of 95 % intervals that contain the mean estimate.

    python examples/calibration.py --samples 1000 --out calibration.md
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lightning_id import manifolds
from lightning_id.functional import (
    Estimate,
    Geometry,
    gride_dimension,
    mle_dimension,
    twonn_dimension,
)
from lightning_id.history.tables import markdown_table

HEAD = """# Calibration of the error bars

Made by `python examples/calibration.py --samples {samples} --rows {rows}`: {samples} fresh samples
of {rows} rows of each cloud. The true deviation is that of the estimates over the samples;
std_error / deviation should be 1.00. Coverage is the share of 95 % intervals that contain the mean
estimate; it should be 95 %. The mean estimate itself lies below the true dimension where samples
are sparse. On a mixture of very different dimensions the error bar is too large: conservative.

"""
CLOUDS: dict[str, Callable[[int, int], Tensor]] = {
    "S^2": lambda n, seed: manifolds.sphere(n, 2, seed=seed),
    "5-ball": lambda n, seed: manifolds.ball(n, 5, seed=seed),
    "S^10": lambda n, seed: manifolds.sphere(n, 10, seed=seed),
    "20-d Gaussian": lambda n, seed: manifolds.gaussian(n, 20, seed=seed),
    "half 2-d, half 20-d": lambda n, seed: manifolds.mixture(n, (2, 20), seed=seed),
}
ESTIMATORS: dict[str, Callable[[Geometry], Estimate]] = {
    "TwoNN linear fit": twonn_dimension,
    "TwoNN MLE": lambda geometry: twonn_dimension(geometry, "mle", 0.0),
    "TwoNN censored MLE": lambda geometry: twonn_dimension(geometry, "mle", 0.1),
    "Gride (2, 4)": lambda geometry: gride_dimension(geometry, 2, 4),
    "MLE of k = 10": lambda geometry: mle_dimension(geometry, 10),
}


def calibrate(cloud: str, n_samples: int, n_rows: int = 1000) -> dict[str, dict[str, float]]:
    """Return mean, deviation, ratio and coverage of every estimator on one cloud."""
    found: dict[str, list[Estimate]] = {name: [] for name in ESTIMATORS}
    for seed in range(n_samples):
        geometry = Geometry(CLOUDS[cloud](n_rows, seed))
        for name, estimator in ESTIMATORS.items():
            found[name].append(estimator(geometry))
    return {name: _summary(estimates) for name, estimates in found.items()}


def _summary(estimates: list[Estimate]) -> dict[str, float]:
    values = torch.tensor([estimate.value for estimate in estimates], dtype=torch.float64)
    errors = torch.tensor([estimate.std_error for estimate in estimates], dtype=torch.float64)
    mean, deviation = float(values.mean()), float(values.std())
    held = [estimate.low <= mean <= estimate.high for estimate in estimates]
    return {
        "mean": mean,
        "deviation": deviation,
        "ratio": float(errors.mean()) / deviation,
        "coverage": sum(held) / len(held),
    }


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the results as a Markdown table."""
    rows = [
        [
            "cloud",
            "estimator",
            "mean estimate",
            "true deviation",
            "std_error / deviation",
            "coverage",
        ]
    ]
    for cloud, found in results.items():
        for name, row in found.items():
            numbers = [f"{row['mean']:.3f}", f"{row['deviation']:.3f}", f"{row['ratio']:.2f}"]
            rows.append([cloud, name, *numbers, f"{row['coverage']:.1%}"])
    return markdown_table(rows) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run the calibration and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000, help="fresh samples of each cloud")
    parser.add_argument("--rows", type=int, default=1000, help="rows of each sample")
    parser.add_argument("--out", type=Path, help="where to write the table")
    options = parser.parse_args(arguments)
    results = {cloud: calibrate(cloud, options.samples, options.rows) for cloud in CLOUDS}
    text = HEAD.format(samples=options.samples, rows=options.rows) + table(results)
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
