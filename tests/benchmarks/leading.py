"""The certified PCA count against all eigenvalues: the same number, and how much faster.

    LIGHTNING_ID_DATA=FOLDER python tests/benchmarks/leading.py

The layers of the network of Ansuini et al. (2019) of at least 512 columns, on 2000 images of full
MNIST, untrained and after each epoch. All five shares of the variance are counted, plain and of
standardised columns. The times are of 90 %, plain, as in a fit: first all eigenvalues, then a cold
count (nothing is known but the last number), then warm ones. Medians of three; the machine must be
idle.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_id import record_activations
from lightning_id.experiments.classifier import Classifier
from lightning_id.experiments.mnist import MNISTDataModule
from lightning_id.experiments.networks import MNISTNet
from lightning_id.functional import Geometry
from lightning_id.functional.eigenvalues import eigenvalues
from lightning_id.functional.leading import SMALLEST, Leading
from lightning_id.functional.pca import Spectrum, rounding_noise
from lightning_id.functional.precision import exact_arithmetic
from lightning_id.history.tables import markdown_table

N_SAMPLES = 2000
SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)


class KeepMoments(pl.Callback):
    """Second moments of the wide layers, before the first and after every epoch."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.kept: list[tuple[int, str, bool, Tensor]] = []  # epochs, layer, standardised

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the moments."""
        network: Any = pl_module.network
        layers = ["input", *(name for name, _ in network.named_children())]
        with torch.no_grad(), record_activations(network, layers) as rows:
            network(self.images)
        for layer, x in rows.items():
            for standardize in (False, True):
                columns = Geometry(x.flatten(1)).columns
                if min(N_SAMPLES, columns.ambient_dimension) < SMALLEST:
                    continue
                with exact_arithmetic(x.device):
                    moment = columns.second_moment(standardize)
                self.kept.append((trainer.current_epoch, layer, standardize, moment.clone()))

    on_train_end = on_train_epoch_start


def moments(epochs: int) -> list[tuple[int, str, bool, Tensor]]:
    """Train the network; return the second moments of its layers."""
    pl.seed_everything(0, verbose=False)
    data = MNISTDataModule(batch_size=64)
    data.prepare_data()
    data.setup("fit")
    images = torch.cat([batch[0] for batch in data.val_dataloader()])[:N_SAMPLES]
    keep = KeepMoments(images)
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[keep],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(MNISTNet(), "sgd", lr=0.01, momentum=0.9), data)
    return keep.kept


def timed(function: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Return the median of the milliseconds that a call takes, and its result."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken), result


def table(kept: list[tuple[int, str, bool, Tensor]]) -> str:
    """Return counts and times as Markdown; raise if a certified count is not that of all."""
    noise = rounding_noise(torch.ones(1), N_SAMPLES)
    rows = [["epochs", "layer", "matrix", "count", "all, ms", "count, ms", "all / count", "how"]]
    n_compared = n_certified = 0
    last: dict[str, Leading] = {}
    for epochs, layer, standardize, moment in kept:
        alive = moment.diagonal().nonzero()[:, 0]
        alive = None if len(alive) == len(moment) else alive
        seconds, values = timed(lambda m=moment, a=alive: eigenvalues(m, a))
        values = values.double()
        spectrum = Spectrum(values, rounding_noise(values, N_SAMPLES))
        for share in SHARES:
            found = Leading().count(moment, share, noise, standardize)
            n_compared += 1
            n_certified += found is not None
            if found not in (None, spectrum.components(share)):
                raise AssertionError(f"{layer} after {epochs} epochs: {share:.0%}")
        if standardize:
            continue
        count = spectrum.components(0.9)
        cells = [f"{epochs}", layer, f"{len(moment)}", f"{count}", f"{seconds:.0f}"]
        if layer in last:
            before, states = last[layer], []

            def follow(m: Tensor = moment) -> int | None:
                states.append(copy.deepcopy(before))  # noqa: B023
                return states[-1].count(m, 0.9, noise, False)  # noqa: B023

            taken, found = timed(follow)
            last[layer] = states[-1]
            how = "warm" if before.vectors else "cold"
            if found is None:  # all eigenvalues are computed after that
                how, taken = f"{how}, then all", taken + seconds
            cells += [f"{taken:.0f}", f"{seconds / taken:.2f}", how]
        else:
            last[layer] = Leading()
            cells += ["", "", "first"]
        last[layer].counts[0.9, False] = count
        rows.append(cells)
    text = f"{n_compared} counts, {n_certified} certified, each that of all eigenvalues\n\n"
    return text + markdown_table(rows) + "\n"


def main() -> None:
    """Train, or read the moments, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--moments", type=Path, help="file to keep the moments in, or read")
    options = parser.parse_args()
    if options.moments is not None and options.moments.exists():
        kept = torch.load(options.moments)
    else:
        kept = moments(options.epochs)
        if options.moments is not None:
            torch.save(kept, options.moments)
            return  # timed by itself
    print(table(kept))


if __name__ == "__main__":
    main()
