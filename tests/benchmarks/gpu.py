"""Speed on a GPU: estimators against the bare product, the full eigensolve and faiss.

    python tests/benchmarks/gpu.py --output docs/benchmark-gpu.md

Medians after one call that loads the libraries, timed between synchronisations; how often each
estimator waits for the device; the difference from the estimate of the same rows on the CPU; an
epoch of ResNet-18 on random 32-pixel images with and without the callback. `--device cpu --small`
runs the same in seconds, to check the script.
"""

import argparse
import importlib.util
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_id import IntrinsicDimensionCallback, manifolds
from lightning_id.experiments.classifier import Classifier
from lightning_id.experiments.convnets import SmallResNet18
from lightning_id.functional import Geometry, get_estimator
from lightning_id.functional.faiss_search import faiss_geometry
from lightning_id.functional.precision import exact_arithmetic
from lightning_id.history.tables import markdown_table

SHAPES = [(2000, 512), (2000, 8192), (2000, 65_536), (10_000, 512)]
SMALL = [(300, 40)]
DTYPES = [torch.float32, torch.bfloat16]
ESTIMATORS = ("twonn", "pca", "ess")
TOLERANCE = 1e-5  # of the CPU


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(function: Callable[[], Any], device: str, repeats: int) -> float:
    """Return the median time of a call, after one that is not counted."""
    function()
    taken = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def n_synchronizations(function: Callable[[], Any], device: str) -> int | None:
    """Return how often a call waits for the device; None on the CPU."""
    if device == "cpu":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


def product(x: Tensor) -> Tensor:
    """Return the bare product of the rows, in float32 without TF32."""
    with exact_arithmetic(x.device):
        rows = x.float()
        return rows @ rows.T


def eigenvalues(x: Tensor) -> Tensor:
    """Return all eigenvalues of the smaller second moment, in torch."""
    with exact_arithmetic(x.device):
        rows = x.float()
        rows = rows - rows.mean(0)
        return torch.linalg.eigvalsh(rows @ rows.T if x.shape[1] > len(x) else rows.T @ rows)


def calls(x: Tensor) -> dict[str, Callable[[], Any]]:
    """Return the calls that are timed, by name."""
    found: dict[str, Callable[[], Any]] = {
        "bare product": lambda: product(x),
        "product and eigvalsh": lambda: eigenvalues(x),
    }
    for name in ESTIMATORS:
        found[name] = lambda name=name: get_estimator(name)(Geometry(x))

    def several() -> list[float]:
        geometry = Geometry(x)
        return [float(get_estimator(name)(geometry)) for name in ("twonn", "pca")]

    found["twonn and pca"] = several
    if importlib.util.find_spec("faiss") is not None:
        found["twonn by faiss"] = lambda: get_estimator("twonn")(faiss_geometry(x))
    return found


def estimators_table(shapes: list[tuple[int, int]], device: str, repeats: int) -> str:
    """Return times, ratios, synchronisations and differences from the CPU as Markdown."""
    rows = [["rows x columns", "dtype", "call", "ms", "/ bare product", "waits", "/ CPU - 1"]]
    for n, d in shapes:
        for dtype in DTYPES:
            on_cpu = manifolds.ball(n, 5, ambient=d).to(dtype)
            timed = calls(on_cpu.to(device))
            bare = None
            for name, call in timed.items():
                taken = seconds(call, device, repeats)
                bare = taken if bare is None else bare
                waits = n_synchronizations(call, device)
                difference = ""
                if name in ESTIMATORS:
                    expected = get_estimator(name)(Geometry(on_cpu)).value
                    off = abs(call().value / expected - 1)
                    difference = f"{off:.0e}" + (" MISS" if off > TOLERANCE else "")
                cells = [
                    f"{n} x {d}",
                    str(dtype).removeprefix("torch."),
                    name,
                    f"{taken * 1e3:.2f}",
                ]
                cells += [f"{taken / bare:.2f}", "" if waits is None else f"{waits}", difference]
                rows.append(cells)
                print(*cells, flush=True)
    return markdown_table(rows)


def epoch(n_samples: int, n_images: int, device: str, epochs: int = 3) -> float:
    """Return the seconds of an epoch after the first; 0 samples are without the callback."""
    generator = torch.Generator().manual_seed(0)

    def loader(n: int) -> DataLoader[Any]:
        images = torch.randn(n, 3, 32, 32, generator=generator)
        return DataLoader(TensorDataset(images, torch.arange(n) % 10), batch_size=128)

    class Clock(pl.Callback):
        ends: list[float] = []  # noqa: RUF012 - of this class alone

        def on_train_epoch_end(self, *_: Any) -> None:
            synchronize(device)
            self.ends.append(time.perf_counter())

    pl.seed_everything(0, verbose=False)
    watch = [IntrinsicDimensionCallback(n_samples=n_samples)] if n_samples else []
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=[*watch, Clock()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        Classifier(SmallResNet18(), "sgd", lr=0.01), loader(n_images), loader(max(n_samples, 64))
    )
    return (Clock.ends[-1] - Clock.ends[0]) / (epochs - 1)


def epochs_table(n_samples: int, n_images: int, device: str) -> str:
    """Return seconds of an epoch with and without the callback as Markdown."""
    without, watched = (epoch(n, n_images, device) for n in (0, n_samples))
    rows = [["images", "samples", "s without", "s with", "ratio"]]
    rows.append([f"{n_images}", f"{n_samples}", f"{without:.2f}", f"{watched:.2f}"])
    rows[-1].append(f"{watched / without:.3f}")
    return markdown_table(rows)


def main() -> None:
    """Measure, and print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    device, small = options.device, options.small
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    text = (
        f"# Speed on a GPU\n\nMade by `python tests/benchmarks/gpu.py`: {name}, torch"
        f" {torch.__version__}. `waits` counts the\nsynchronisations of a call; the last column is"
        f" the relative difference from the CPU (at most {TOLERANCE:g}).\n\n"
        + estimators_table(SMALL if small else SHAPES, device, options.repeats)
        + "\n\n## An epoch of ResNet-18\n\n"
        + epochs_table(*((40, 64) if small else (2000, 50_000)), device)
        + "\n"
    )
    print(text)
    if options.output is not None:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
