"""Calibration of the paired error bars of changes, on many fresh samples of the same two states.

For each pair of states: the mean change, its true standard deviation over fresh samples, the mean
reported standard error over that deviation (1 is correct), the share of 95 % intervals that contain
the mean change, and the same deviation against two separate error bars added in squares.

    python examples/calibration_change.py --samples 200 --cache /tmp/changes --out page.md

The networks are trained once and, like the results of every group, kept in the cache folder:
``--group`` makes one group alone.
"""

import argparse
import json
import math
from collections.abc import Callable, Collection
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

from lightning_id import manifolds, record_activations
from lightning_id.experiments.mnist import MNISTDataModule
from lightning_id.experiments.networks import MNISTNet
from lightning_id.experiments.sources import given_root
from lightning_id.functional import (
    Estimate,
    Geometry,
    change_of_estimates,
    gride_dimension,
    mle_dimension,
    twonn_dimension,
)
from lightning_id.history.tables import markdown_table

HEAD = """# Calibration of the error bars of changes

Made by `python examples/calibration_change.py --samples {samples} --rows {rows}`: {samples} fresh
samples of every pair of states.
The same samples are measured in both states, so the errors of the two estimates go together;
[`change`](reference/functional.md) allows for that.
The true deviation is that of the change over the samples; std_error / deviation should be 1.00,
coverage 95 %. The last column is the bar from two separate standard errors over the same deviation:
how many times too large it is.

The network is that of Ansuini et al. (2019), trained by SGD (learning rate 0.01, momentum 0.9,
batches of 64). Samples of MNIST and Fashion-MNIST are drawn from all 70 000 images; "a -> b" are
numbers of steps, or two layers after {last} steps. To the balls, noise of that deviation is added
in each of 20 columns.

"""
EXTREMES = """The extremes of 29 pairs differ from 1.00 and 95 % by chance where every bar is right.
Expected: from the 2.5 % point of the lowest to the 97.5 % point of the highest, of as many
independent pairs whose bars are right.

"""
OTHERS = """
## Other estimators

The same pairs, {rows} rows. The bars of far orders are too large where a change is large, as are
bars of the estimates. The bars of the censored fit are less regular for changes far below
anything worth reading (a hundredth of a dimension), because a ratio counts as censored or not.

"""
STEPS = (100, 600, 650, 900)
ROWS = (500, 1000, 2000)
ESTIMATORS: dict[str, Callable[[Geometry], Estimate]] = {
    "TwoNN linear fit": twonn_dimension,
    "TwoNN censored MLE": partial(twonn_dimension, method="mle"),
    "Gride (1, 2)": gride_dimension,
    "Gride (2, 4)": partial(gride_dimension, n1=2, n2=4),
    "MLE of k = 10": partial(mle_dimension, k=10),
}
Pairs = dict[str, tuple[Tensor, Tensor]]


def manifold_pairs(n: int, seed: int) -> Pairs:
    """Return the states of manifolds under growing perturbation."""
    ball = manifolds.ball(n, 5, ambient=20, seed=seed)
    sphere = manifolds.sphere(n, 10, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(ball.shape, generator=generator)
    return {
        "5-ball, noise .001": (ball, ball + 0.001 * noise),
        "5-ball, noise .01": (ball, ball + 0.01 * noise),
        "5-ball, noise .03": (ball, ball + 0.03 * noise),
        "5-ball, noise .1": (ball, ball + 0.1 * noise),
        "5-ball, noise .1 -> .11": (ball + 0.1 * noise, ball + 0.11 * noise),
        "S^10, flattened by half": (sphere, sphere * torch.linspace(1, 0.5, 11)),
        "S^10, ReLU": (sphere, torch.relu(sphere)),
        "S^10, identical": (sphere, sphere.clone()),
    }


def network_pairs(n: int, seed: int, cache: Path, data: str) -> Pairs:
    """Return the states of layers of a network, on images drawn from all of a data set."""
    images, outputs = _measured(data, cache)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(images), generator=generator)[:n]
    pixels = images[drawn].flatten(1)
    rows = {
        step: {layer: x[drawn] for layer, x in layers.items()} for step, layers in outputs.items()
    }
    early, before, after, last = STEPS
    return {
        **{
            f"{data} {layer}, {a} -> {b}": (rows[a][layer], rows[b][layer])
            for a, b in ((before, after), (before, last), (early, last))
            for layer in ("pool2", "d1", "output")
        },
        f"{data} input -> pool2": (pixels, rows[last]["pool2"]),
        f"{data} pool2 -> d1": (rows[last]["pool2"], rows[last]["d1"]),
    }


GROUPS: dict[str, Callable[[int, int, Path], Pairs]] = {
    "manifolds": lambda n, seed, _: manifold_pairs(n, seed),
    "MNIST": partial(network_pairs, data="MNIST"),
    "FashionMNIST": partial(network_pairs, data="FashionMNIST"),
}


def calibrate(
    group: str, n_samples: int, n_rows: int, cache: Path, estimators: Collection[str]
) -> dict[str, dict]:
    """Return the numbers of estimators on every pair of a group, by pair and estimator."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for seed in range(n_samples):
        pairs = GROUPS[group](n_rows, seed, cache)
        states = {id(rows): Geometry(rows) for pair in pairs.values() for rows in pair}
        for name in estimators:
            estimates = {key: ESTIMATORS[name](geometry) for key, geometry in states.items()}
            for pair, (first, second) in pairs.items():
                draws = found.setdefault(pair, {}).setdefault(name, [])
                draws.append(_draw(estimates[id(first)], estimates[id(second)]))
    return {
        pair: {name: _summary(draws) for name, draws in of_pair.items()}
        for pair, of_pair in found.items()
    }


def _draw(first: Estimate, second: Estimate) -> dict[str, float]:
    moved = change_of_estimates(first, second)
    separate = math.hypot(first.std_error, second.std_error)
    return {"value": moved.value, "std_error": moved.std_error, "separate": separate}


def _summary(draws: list[dict[str, float]]) -> dict[str, float]:
    columns = ("value", "std_error", "separate")
    values, errors, separate = (
        torch.tensor([draw[name] for draw in draws], dtype=torch.float64) for name in columns
    )
    mean, deviation = float(values.mean()), float(values.std())
    held = (values - mean).abs() <= 1.96 * errors
    identical = deviation == 0 and not errors.any()
    return {
        "mean": mean,
        "deviation": deviation,
        "ratio": math.nan if identical else float(errors.mean()) / deviation,
        "coverage": float(held.double().mean()),
        "separate": math.inf if identical else float(separate.mean()) / deviation,
    }


def page(results: dict[int, dict[str, dict]], n_samples: int) -> str:
    """Return the page of the documentation: TwoNN at every number of rows, then the others."""
    rows = [
        [
            "states",
            "rows",
            "mean change",
            "true deviation",
            "std_error / deviation",
            "coverage",
            "separate bars / deviation",
        ]
    ]
    for pair in next(iter(results.values()), {}):
        rows += [
            [pair, str(n), *_numbers(found[pair]["TwoNN linear fit"])]
            for n, found in sorted(results.items())
        ]
    middle = _middle(results)
    others = [["states", "estimator", *rows[0][2:]]]
    for pair, found in results[middle].items():
        others += [[pair, name, *_numbers(found[name])] for name in list(ESTIMATORS)[1:]]
    return (
        HEAD.format(
            samples=n_samples,
            rows=" ".join(map(str, sorted(results))),
            last=STEPS[-1],
        )
        + EXTREMES
        + markdown_table(_extremes(results, n_samples))
        + "\n\n"
        + markdown_table(rows)
        + "\n"
        + OTHERS.format(rows=middle)
        + markdown_table(others)
        + "\n"
    )


def _extremes(results: dict[int, dict[str, dict]], n_samples: int) -> list[list[str]]:
    """Return the range of both measures of TwoNN, for every number of rows."""
    table = [["rows", "std_error / deviation", "expected", "coverage", "expected"]]
    for n, found in sorted(results.items()):
        moved = [of["TwoNN linear fit"] for of in found.values()]
        moved = [row for row in moved if row["deviation"] > 0]
        ratios, coverages = ([row[name] for row in moved] for name in ("ratio", "coverage"))
        low, high = expected_ratios(n_samples, len(moved))
        of_ratios = f"{min(ratios):.2f} to {max(ratios):.2f}", f"{low:.2f} to {high:.2f}"
        low, high = expected_coverages(n_samples, len(moved))
        of_coverages = f"{min(coverages):.1%} to {max(coverages):.1%}", f"{low:.1%} to {high:.1%}"
        table.append([str(n), *of_ratios, *of_coverages])
    return table


def expected_ratios(n_draws: int, n_pairs: int) -> tuple[float, float]:
    """Return the same points of error over deviation, for normal changes and equal errors."""
    normal = NormalDist().inv_cdf(0.975 ** (1 / n_pairs))
    share = normal / math.sqrt(2 * (n_draws - 1))
    return 1 / (1 + share), 1 / (1 - share)


def expected_coverages(n_draws: int, n_pairs: int) -> tuple[float, float]:
    """Return the 2.5 % point of the lowest and the 97.5 % point of the highest of all coverages."""
    terms = [math.comb(n_draws, k) * 0.95**k * 0.05 ** (n_draws - k) for k in range(n_draws + 1)]
    up_to = list(accumulate(terms))
    lowest = next(k for k, p in enumerate(up_to) if 1 - (1 - p) ** n_pairs >= 0.025)
    highest = next(k for k, p in enumerate(up_to) if p**n_pairs >= 0.975)
    return lowest / n_draws, highest / n_draws


def _numbers(row: dict[str, float]) -> list[str]:
    if row["deviation"] == 0:
        return [f"{row['mean']:+.3f}", "0", "both exactly 0", f"{row['coverage']:.1%}", ""]
    digits = max(3, 1 - math.floor(math.log10(row["deviation"])))
    return [
        f"{row['mean']:+.{digits}f}",
        f"{row['deviation']:.{digits}f}",
        f"{row['ratio']:.2f}",
        f"{row['coverage']:.1%}",
        f"{row['separate']:.1f}",
    ]


# --- networks ------------------------------------------------------------------------------------


@lru_cache(maxsize=1)  # some 2 GB
def _measured(data: str, cache: Path) -> tuple[Tensor, dict[int, dict[str, Tensor]]]:
    """Return all images of a data set and the layers' outputs at every step, trained once."""
    images, labels = _images(data)
    path = cache / f"{data}.pt"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        torch.save(_train(images[:60_000], labels[:60_000]), path)
    network, outputs = MNISTNet(), {}
    for step, weights in torch.load(path, weights_only=True).items():
        network.load_state_dict(weights)
        outputs[step] = _outputs(network, images)
    return images, outputs


def _images(data: str) -> tuple[Tensor, Tensor]:
    """Return the normalised training and test images of a data set, and their labels."""
    if data == "MNIST":
        module = MNISTDataModule()
        module.prepare_data()
        module.setup("fit")
        sets = module.train_set, module.val_set
        return torch.cat([each.images for each in sets]), torch.cat([each.labels for each in sets])
    sets = [FashionMNIST(given_root("FashionMNIST"), train=train) for train in (True, False)]
    pixels = torch.cat([each.data for each in sets]).float() / 255
    labels = torch.cat([each.targets for each in sets])
    return ((pixels - 0.2860) / 0.3530).unsqueeze(1), labels


def _train(images: Tensor, labels: Tensor) -> dict[int, dict[str, Tensor]]:
    """Train the network, and return its weights at every step of interest."""
    pl.seed_everything(0)
    network = MNISTNet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    order = torch.randperm(len(images))
    kept = {}
    for step in range(1, STEPS[-1] + 1):
        batch = order[64 * (step - 1) : 64 * step]
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()
        if step in STEPS:
            kept[step] = {name: value.clone() for name, value in network.state_dict().items()}
    return kept


def _outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    layers = ["pool2", "d1", "output"]
    with torch.no_grad(), record_activations(network, layers, len(images)) as rows:
        for batch in images.split(1000):
            network(batch)
    return rows


# --- the command ---------------------------------------------------------------------------------


def _middle(rows: Collection[int]) -> int:
    """Return the number of rows at which all estimators are measured."""
    return sorted(rows)[len(rows) // 2]


def results_of(group: str, n_samples: int, rows: list[int], cache: Path) -> dict[int, dict]:
    """Return the results of a group by number of rows, from the cache where they are there."""
    found = {}
    for n in rows:
        names = list(ESTIMATORS)[: None if n == _middle(rows) else 1]
        path = cache / f"{group}-{n}-{n_samples}-{len(names)}.json"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(calibrate(group, n_samples, n, cache, names)))
        found[n] = json.loads(path.read_text())
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run the calibration of one group or all, and print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=200, help="fresh samples of each pair")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="rows of each sample")
    parser.add_argument("--group", choices=list(GROUPS), nargs="+", default=list(GROUPS))
    parser.add_argument("--cache", type=Path, required=True, help="folder of networks and results")
    parser.add_argument("--out", type=Path, help="where to write the page")
    options = parser.parse_args(arguments)
    results: dict[int, dict] = {n: {} for n in options.rows}
    for group in options.group:
        for n, found in results_of(group, options.samples, options.rows, options.cache).items():
            results[n].update(found)
    text = page(results, options.samples)
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
