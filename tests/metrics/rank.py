"""What one of two ranks does in each scenario of `test_ranks.py`."""

import os
import warnings
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed
from torchmetrics import MetricCollection

from lightning_id.metrics import DimensionMetric, PCADimension, TwoNNDimension


def rows(n: int, seed: int = 0, d: int = 6) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


# Name of the scenario -> rows of rank 0 and rank 1; None: the rank never calls update.
SCENARIOS: dict[str, tuple[Tensor | None, Tensor | None]] = {
    "even": (rows(300)[:150], rows(300)[150:]),
    "uneven": (rows(300)[:220], rows(300)[220:]),
    "second without data": (rows(300), None),
    "first without data": (None, rows(300)),
    "second with empty batches": (rows(300), rows(0)),
    "nobody with data": (None, None),
    "bfloat16 and float32": (rows(150).bfloat16(), rows(150, seed=1)),
    "all bfloat16": (rows(150).bfloat16(), rows(120, seed=1).bfloat16()),
    "float64 and no data": (None, rows(150).double()),
    "more than max_samples": (rows(500), rows(900, seed=1)),
    "one beyond max_samples": (rows(900), rows(20, seed=1)),
}
MAX_SAMPLES = 300


def result(metric: DimensionMetric) -> dict[str, object]:
    """Return value, estimate and sample of all ranks, and the rows held here afterwards."""
    value = metric.compute()
    metric.sync()
    sample = metric.samples.clone()
    metric.unsync()
    return {
        "value": float(value),
        "estimate": metric.estimate().to_dict(),
        "sample": sample,
        "own": metric.samples.clone(),
    }


def run(rank: int) -> dict[str, object]:
    seen: dict[str, object] = {}
    for name, data in SCENARIOS.items():
        metric = TwoNNDimension(max_samples=MAX_SAMPLES)
        for batch in () if data[rank] is None else (data[rank].split(64) or (data[rank],)):
            metric.update(batch)
        seen[name] = result(metric)

    # Different lengths of rows: an error on every rank, and a metric that still works.
    metric = TwoNNDimension()
    metric.update(rows(50, d=3 + rank))
    try:
        metric.compute()
    except ValueError as error:
        seen["lengths"] = str(error)
    seen["after the error"] = float(metric(rows(50, d=3 + rank)))

    # Accumulation goes on after compute; too few rows on both ranks are too few no longer.
    metric = TwoNNDimension()
    metric.update(rows(1, seed=rank))
    seen["too few"] = float(metric.compute())
    metric.update(rows(150, seed=2 + rank))
    seen["more later"] = float(metric.compute())
    metric.reset()
    metric.update(rows(200)[rank::2])
    seen["after reset"] = float(metric.compute())

    # forward estimates the batch of its own rank, or of all ranks when asked for.
    seen["forward"] = float(TwoNNDimension()(rows(100, seed=rank)))
    seen["forward of all"] = float(TwoNNDimension(dist_sync_on_step=True)(rows(100, seed=rank)))
    metric = TwoNNDimension(sync_on_compute=False)
    metric.update(rows(100, seed=rank))
    seen["not synchronised"] = float(metric.compute())

    metrics = MetricCollection(TwoNNDimension(), PCADimension())
    for batch in rows(300)[rank::2].split(64):
        metrics.update(batch)
    seen["collection"] = {name: float(value) for name, value in metrics.compute().items()}
    return seen


def save_scenarios(folder: Path) -> None:
    """Run every scenario on this rank, under a real process group, and save the results."""
    warnings.simplefilter("ignore")
    rank = int(os.environ["RANK"])
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=30),
    )
    torch.save(run(rank), folder / f"rank{rank}.pt")
    distributed.destroy_process_group()
