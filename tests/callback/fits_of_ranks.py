"""Fits of the toy that `test_distributed.py` makes on one rank or on two.

The same ranks make them one after the other. Of each, `fault` is `none`, `prepare`,
`die` or `N` for an exception of the last rank before its N-th collective; `mode` is `val` for the
validation samples, `probe` for others, `steps` to measure between training steps, `fsdp` and
`fsdp steps` for a model whose parameters are spread over the processes.
"""

import os
import sys
import tempfile
import warnings

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import distributed
from torch.distributed.fsdp import fully_shard

from lightning_id import AtSteps, IntrinsicDimensionCallback
from lightning_id.callback import running as running_module
from lightning_id.functional import sharded
from lightning_id.recording import processes
from tests.toys import Toy, loader, trainer


class FixedWeights(Toy):
    """The same weights and statistics in every run, whatever they are averaged over."""

    def __init__(self):
        super().__init__()
        self.net[1].momentum = 0.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Sharded(FixedWeights):
    """The parameters of every layer spread over the processes (FSDP2)."""

    def __init__(self):
        super().__init__()
        self.net.pop(1)  # batch norm has statistics, which FSDP leaves alone

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def configure_model(self):
        if self.trainer.world_size > 1:
            mesh = self.device_mesh["data_parallel"]
            for layer in (self.net[0], self.net[4], self.net[7], self.net):
                fully_shard(layer, mesh=mesh)


def put_fault(fault: str, is_last: bool, patch: pytest.MonkeyPatch) -> None:
    """Make the last rank fail, once, at a place."""
    if fault == "none" or not is_last:
        return
    if fault == "prepare":

        def broken(*_args, **_kwargs):
            raise ZeroDivisionError("injected")

        patch.setattr(running_module, "samples_of", broken)
        return
    if fault == "die":
        patch.setattr(sharded, "check_peers", lambda *_args, **_kwargs: os._exit(1))
        return
    left, check_peers = [int(fault)], sharded.check_peers

    def failing(device, ok=True):
        left[0] -= 1
        if left[0] == 0 and sys._getframe(1).f_code.co_name == "estimate":
            left[0] = 1  # nothing can fail between an estimator and its check: at the next one
        elif left[0] == 0 and ok:
            raise ZeroDivisionError("injected")
        check_peers(device, ok)

    patch.setattr(sharded, "check_peers", failing)


class Widths(pl.Callback):
    """Note the widest piece of a layer that this process ever held for estimating."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.widest = 0
        make = processes.sharded_geometry

        def noting(rows):
            geometry = make(rows)
            self.widest = max(self.widest, geometry.x.numel())
            return geometry

        patch.setattr(processes, "sharded_geometry", noting)


MODES = {
    "val": dict,
    "probe": lambda: {
        "data": {"probe": loader(75, batch_size=8, seed=4)},
        "reduce": "per-position",
    },
    "steps": lambda: {"schedule": AtSteps([0, 1, 2]), "data": ["train"]},
    "fsdp": dict,
    "fsdp steps": lambda: {"schedule": AtSteps([0, 1, 2])},
}


def fits(devices: int, tasks: list[dict]) -> list[dict]:
    """Make fits one after the other; return the records of each on this rank, and more."""
    return [fit(devices, **task) for task in tasks]


def fit(
    devices: int,
    n_val: int = 61,
    n_samples: int = 2000,
    seed: int = 0,
    fault: str = "none",
    mode: str = "val",
) -> dict:
    pl.seed_everything(0, verbose=False)
    callback = IntrinsicDimensionCallback(
        ["input", "net.*"],
        ("twonn", "pca", "participation_ratio"),
        n_samples=n_samples,
        seed=seed,
        per_class=10,
        **MODES[mode](),
    )
    shards = mode.startswith("fsdp")
    spread = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        widths = Widths(patch)
        runner = trainer(
            tempfile.gettempdir(),
            callbacks=[callback, widths],
            devices=devices,
            max_epochs=1,
            strategy="auto" if devices == 1 else spread if shards else "ddp",
            num_sanity_val_steps=-1,
        )
        put_fault(fault, runner.global_rank == devices - 1 > 0, patch)
        model = Sharded() if shards else FixedWeights()
        runner.fit(model, loader(64), loader(n_val, batch_size=8, seed=1))
    logged = {key: float(value) for key, value in runner.callback_metrics.items() if "id" in key}
    result = {"records": callback.history.records, "logged": logged, "widest": widths.widest}
    result["said"] = [str(warning.message) for warning in caught]
    if not shards:
        result["weights"] = [float(p.detach().double().sum()) for p in model.parameters()]
    if distributed.is_initialized():
        distributed.barrier()
    return result
