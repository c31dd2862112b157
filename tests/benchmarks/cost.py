"""Cost of the callback: the network of Ansuini et al. (2019) on full MNIST, with and without it.

    LIGHTNING_ID_DATA=FOLDER python tests/benchmarks/cost.py --output docs/cost.md

Every run is a process of its own; runs with 0 (no callback), 1000 and 2000 samples take turns, and
medians are compared. All seven layers, TwoNN and PCA, at every epoch. One more run draws the
figures into TensorBoard, another takes some steps of ResNet-18 and one measurement of it. The
machine must be idle.
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from lightning_id import IntrinsicDimensionCallback, record_activations
from lightning_id.callback.charts import Charts
from lightning_id.experiments.classifier import Classifier
from lightning_id.experiments.convnets import SmallResNet18
from lightning_id.experiments.images import ImageDataModule
from lightning_id.experiments.mnist import MNISTDataModule
from lightning_id.experiments.networks import MNISTNet
from lightning_id.functional.products import add_triangle
from lightning_id.history.tables import markdown_table

SIZES = (0, 1000, 2000)  # samples; 0 is without the callback
BARS = {1000: 1.035, 2000: 1.1}  # of 1 + parts / without
STEPS, BATCH, IMAGES, RESNET_BAR = 12, 64, 50_000, 1.03  # of ResNet-18
PARTS = {  # where the time of a measurement goes, and the functions that take it
    "record": [("recording.recorder.Recorder", "_guarded")],
    "Gram": [("functional.columns.Columns", "gram_matrix")],
    "neighbours": [
        ("functional.neighbors.NeighborSearch", "look_ahead"),
        ("functional.neighbors.NeighborSearch", "find"),
    ],
    "spectrum": [
        ("functional.geometry.Geometry", "spectrum"),
        ("functional.geometry.Geometry", "leading_count"),
    ],
    "changes": [
        ("callback.running.Comparisons", "compare"),
        ("callback.running", "compare_layers"),
    ],
    "log": [
        ("history.History", "append"),
        ("callback.outputs.Outputs", "after"),
    ],
}


def run(n_samples: int, epochs: int, board: str | None = None) -> dict[str, Any]:
    """Train once; return seconds of the fit, per training epoch, and of each part."""
    spent = _time_parts()
    pictures: list[float] = []  # seconds of every drawing
    _watch_pictures(pictures)
    pl.seed_everything(0, verbose=False)
    layers = ["input", *(f"network.{name}" for name, _ in MNISTNet().named_children())]
    epoch_times = EpochTimes(spent)
    callbacks = [epoch_times]
    if n_samples:
        callbacks.append(IntrinsicDimensionCallback(layers, n_samples=n_samples, seed=None))
    logger = False if board is None else TensorBoardLogger(board)
    seconds = fit(MNISTNet(), MNISTDataModule(batch_size=64), epochs, callbacks, logger)
    return {
        "fit": seconds,
        "epochs": epochs,
        "training": statistics.fmean(epoch_times.training),
        "control": epoch_times.training[0],  # nothing was measured yet
        "parts": {part: spent[part] - epoch_times.spent_before[part] for part in PARTS},
        "products": bare_products(n_samples) if n_samples else 0,
        "pictures": pictures,
    }


def fit(
    network: torch.nn.Module,
    data: ImageDataModule,
    epochs: int,
    callbacks: list[pl.Callback],
    logger: TensorBoardLogger | bool = False,
) -> float:
    """Train a network and return the seconds of the fit alone."""
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        num_sanity_val_steps=0,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data.prepare_data()
    data.setup("fit")
    model = Classifier(network, "sgd", lr=0.01, momentum=0.9)
    start = time.perf_counter()
    trainer.fit(model, data)
    return time.perf_counter() - start


class PaddedResNet18(SmallResNet18):
    """ResNet-18 with a small stem, of grey images of 28 pixels: padded to 32, in three channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return super().forward(torch.nn.functional.pad(x, (2, 2, 2, 2)).expand(-1, 3, -1, -1))


def run_resnet(n_samples: int = 2000) -> dict[str, Any]:
    """Take steps of ResNet-18 on Fashion-MNIST and measure once; return seconds and layers."""
    spent, steps = _time_parts(), StepTimes()
    watch = IntrinsicDimensionCallback("auto", n_samples=n_samples, seed=None)
    data = ImageDataModule("FashionMNIST", batch_size=BATCH, n_train=STEPS * BATCH, n_val=n_samples)
    pl.seed_everything(0, verbose=False)
    fit(PaddedResNet18(), data, 1, [steps, watch])
    return {
        "step": statistics.median(steps.taken[2:]),
        "layers": len({record["layer"] for record in watch.history.records}),
        "parts": {part: spent[part] for part in PARTS},
    }


def resnet_text(found: dict[str, Any], n_samples: int = 2000) -> str:
    """Return the ratio to an epoch, extrapolated from steps, as Markdown."""
    epoch, parts = found["step"] * IMAGES / BATCH, found["parts"]
    ratio = 1 + sum(parts.values()) / epoch
    rows = [["ResNet-18", "layers", "samples", "s per step", "s per epoch", "ratio", "bar", *parts]]
    cells = [f"{IMAGES} images", f"{found['layers']}", f"{n_samples}", f"{found['step']:.2f}"]
    rows.append([*cells, f"{epoch:.0f}", f"{ratio:.3f}", f"{RESNET_BAR}"])
    rows[-1] += [f"{value:.2f}" for value in parts.values()]
    return (
        "\n## ResNet-18 on images of 32 pixels\n\nFashion-MNIST padded, the layers that `auto`"
        f" picks, TwoNN and PCA, one measurement an epoch. The epoch is extrapolated: the median of"
        f" {STEPS - 2} steps of {BATCH}\nimages, for {IMAGES} images; the parts are seconds of the"
        " first measurement.\n\n" + markdown_table(rows) + "\n"
    )


def _time_parts() -> "Counter[str]":
    """Let the functions of all parts add the time they take to the counter returned."""
    spent: Counter[str] = Counter()
    for part, functions in PARTS.items():
        for where, name in functions:
            _time(where, name, part, spent)
    return spent


def _time(where: str, name: str, part: str, spent: "Counter[str]") -> None:
    """Let a function add the time it takes to a part; what is nested in it counts for itself."""
    module, _, kind = where.rpartition(".")
    owner = getattr(importlib.import_module(f"lightning_id.{module}"), kind)
    plain: Callable[..., Any] = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        others = sum(spent.values())
        start = time.perf_counter()
        try:
            return plain(*args, **kwargs)
        finally:
            nested = sum(spent.values()) - others
            spent[part] += time.perf_counter() - start - nested

    setattr(owner, name, timed)


def _watch_pictures(found: list[float]) -> None:
    plain = Charts.draw

    def timed(charts: Charts, *args: Any) -> None:
        before = charts._spent
        plain(charts, *args)
        if charts._spent > before:  # else it was left out
            found.append(charts._spent - before)

    Charts.draw = timed


class EpochTimes(pl.Callback):
    """Seconds of the training batches of every epoch, and of each part before the last one."""

    def __init__(self, spent: "Counter[str]") -> None:
        self.training: list[float] = []
        self.spent = self.spent_before = spent

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the time."""
        self.spent_before = self.spent.copy()
        self._start = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the time again."""
        self.training.append(time.perf_counter() - self._start)


class StepTimes(pl.Callback):
    """Seconds of every training step."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Take the time."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Take the time again."""
        self.taken.append(time.perf_counter() - self._start)


def widths() -> list[int]:
    """Return the features of every layer and of `last_hidden`."""
    network = MNISTNet()
    layers = ["input", *(name for name, _ in network.named_children())]
    with record_activations(network, layers) as rows:
        network(torch.zeros(2, 1, 28, 28))
    return [*(x.shape[1] for x in rows.values()), network.output.in_features]


def rows_in_gib(n_samples: int) -> float:
    """Return the memory of the rows of all layers and of `last_hidden`, by shape."""
    return 4 * n_samples * sum(widths()) / 2**30


def bare_products(n_samples: int, repeats: int = 5) -> float:
    """Return the seconds of one symmetric product of rows of every width: the exact lower limit."""
    taken = []
    for _ in range(repeats + 1):  # the first is not counted
        taken.append(0.0)
        for width in widths():
            x, out = torch.ones(n_samples, width), torch.empty(n_samples, n_samples)
            start = time.perf_counter()
            add_triangle(out, x, first=True)
            taken[-1] += time.perf_counter() - start
    return statistics.median(taken[1:])


def table(runs: dict[int, list[dict[str, Any]]]) -> str:
    """Return the comparison as Markdown."""
    head = ["samples", "GiB of rows", "seconds of the fit", "with / without"]
    head += [
        "1 + parts / without",
        "bar",
        "parts / bare symmetric products (bar 1.6)",
        "training steps, with / without",
    ]
    head += ["steps before the first measurement, with / without: the noise"]
    rows = [[*head, *PARTS]]
    plain = {
        key: statistics.median(r[key] for r in runs[0]) for key in ("fit", "training", "control")
    }
    for n_samples, found in runs.items():
        middle = {key: statistics.median(r[key] for r in found) for key in plain}
        cells = [f"{n_samples or 'none'}", f"{rows_in_gib(n_samples):.2g}", f"{middle['fit']:.1f}"]
        cells.append(f"{middle['fit'] / plain['fit']:.3f}" if n_samples else "1")
        parts = statistics.median(sum(r["parts"].values()) * r["epochs"] for r in found)
        cells.append(f"{1 + parts / plain['fit']:.3f}")
        cells.append(f"{BARS[n_samples]}" if n_samples else "")
        cells.append("")
        if n_samples:
            ratios = [sum(r["parts"].values()) / r["products"] for r in found]
            cells[-1] = f"{statistics.median(ratios):.2f}"
        cells += [f"{middle[key] / plain[key]:.3f}" for key in ("training", "control")]
        cells += [f"{statistics.median(r['parts'][part] for r in found):.3f}" for part in PARTS]
        rows.append(cells)
    return markdown_table(rows) + "\n"


def _in_a_process(*arguments: object) -> dict[str, Any]:
    """Train in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run in turns, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--board", help=argparse.SUPPRESS)
    parser.add_argument("--resnet", action="store_true", help="ResNet-18 alone, in this process")
    options = parser.parse_args()
    if options.resnet:
        print(json.dumps(run_resnet()))
        return
    if options.run is not None:
        print(json.dumps(run(options.run, options.epochs, options.board)))
        return
    from bench import machine  # here: where a test imports this file, it is not found

    about = machine()
    runs: dict[int, list[dict[str, Any]]] = {size: [] for size in SIZES}
    for repeat in range(options.repeats):
        for size in SIZES if repeat % 2 else reversed(SIZES):
            runs[size].append(_in_a_process("--run", size, "--epochs", options.epochs))
            print(size, runs[size][-1], flush=True)
    text = (
        f"# Cost of the callback\n\n{about}\n\n"
        f"Made by `python tests/benchmarks/cost.py --epochs {options.epochs} --repeats"
        f" {options.repeats}`: the network of Ansuini et al. (2019) on full MNIST, all seven"
        " layers, TwoNN and PCA at every epoch.\nMedians of runs that take turns; parts are seconds"
        " of the last epoch. The ratio of the training steps\nbefore the first measurement should"
        " be 1: the ratios contain noise of about its deviation. The parts are therefore timed"
        " separately. Changes are all paired differences from other measurements and layers; the"
        " note on the\nlaw of TwoNN compares two known numbers.\n\nThe share of the time depends on"
        " the machine: on how fast it trains this network, against how fast it\nmultiplies"
        " matrices. Parts / products hardly does.\n\n" + table(runs)
    )
    with tempfile.TemporaryDirectory() as board:
        drawn = _in_a_process("--run", 2000, "--epochs", 5, "--board", board)
    *others, last = drawn["pictures"]
    text += (
        f"\nFigures in TensorBoard over 5 epochs, {drawn['fit']:.1f} s: drawn"
        f" {len(others) + 1} times. The last, at the end of the fit, took {last:.2f} s; the others"
        f" together {sum(others):.2f} s, {sum(others) / drawn['fit']:.2%} of the time (bar 1 %).\n"
    )
    text += resnet_text(_in_a_process("--resnet"))
    print(text)
    if options.output is not None:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
