"""Run by `test_distributed.py`: a fit of the toy on some processes, its history to a file per rank.

    python ddp_run.py FOLDER DEVICES N_VAL N_SAMPLES FAULT

FAULT is `none`, `prepare` or `N` for an exception of the last rank before its N-th collective.
"""

import json
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import distributed

from lightning_id import IntrinsicDimensionCallback
from lightning_id import callback as callback_module
from lightning_id.functional.sharded import ShardedGeometry
from tests.toys import Toy, loader, trainer


class FixedWeights(Toy):
    """The same weights and statistics in every run, whatever they are averaged over."""

    def __init__(self):
        super().__init__()
        self.net[1].momentum = 0.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def put_fault(fault: str, is_last: bool) -> None:
    """Make the last rank fail, once, at a place."""
    if fault == "none" or not is_last:
        return
    if fault == "prepare":

        def broken(*_args, **_kwargs):
            raise ZeroDivisionError("injected")

        callback_module.samples_of = broken
        return
    left, settle = [int(fault)], ShardedGeometry.settle

    def failing(self, ok=True):
        left[0] -= 1
        if left[0] == 0 and ok:
            raise ZeroDivisionError("injected")
        settle(self, ok)

    ShardedGeometry.settle = failing


class Widths(pl.Callback):
    """Note the widest piece of a layer that this process ever held for estimating."""

    def __init__(self):
        self.widest = 0
        made = ShardedGeometry.__init__

        def noting(geometry, *args, **kwargs):
            made(geometry, *args, **kwargs)
            self.widest = max(self.widest, geometry.x.numel())

        ShardedGeometry.__init__ = noting


def main(folder: str, devices: str, n_val: str, n_samples: str, fault: str) -> None:
    pl.seed_everything(0, verbose=False)
    callback = IntrinsicDimensionCallback(
        ["input", "net.*"], ("twonn", "pca", "participation_ratio"), n_samples=int(n_samples)
    )
    widths = Widths()
    runner = trainer(
        folder, callbacks=[callback, widths], devices=int(devices), max_epochs=1,
        strategy="ddp" if int(devices) > 1 else "auto", num_sanity_val_steps=-1,
    )  # fmt: skip
    put_fault(fault, runner.global_rank == int(devices) - 1 > 0)
    model = FixedWeights()
    runner.fit(model, loader(64), loader(int(n_val), batch_size=8, seed=1))
    logged = {key: float(value) for key, value in runner.callback_metrics.items() if "id" in key}
    result = {"records": callback.history.records, "logged": logged, "widest": widths.widest}
    result["weights"] = [float(p.detach().double().sum()) for p in model.parameters()]
    Path(folder, f"rank{runner.global_rank}.json").write_text(json.dumps(result))
    if distributed.is_initialized():
        distributed.barrier()


if __name__ == "__main__":
    main(*sys.argv[1:])
