"""Fits of other people's modules: with the callback, without it, and with hooks of the test."""

import contextlib
import fnmatch
import importlib.util
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_id import IntrinsicDimensionCallback
from tests.functional.naive import pca_count, twonn_linear
from tests.toys import count_hooks

N_TRAIN, N_VAL, BATCH = 96, 200, 48  # the last validation batch has 8


# The kinds of reasons and warnings, by the part of each that no rewording touches.
KINDS = {
    "end": "id/last_hidden",
    "calls": r"called \d+ times",
    "absent": "never called",
    "rows": "rows_per_sample",
    "axis": "sample_dim",
    "law": "law of TwoNN",
    "ties": r"\btie",
    "padding": "padding",
    "output": "expected (a tensor|an output of its own)",
}


def kind_of(text: str) -> str:
    """Return the kind of a reason or warning; the text itself, if it is of none."""
    return next((kind for kind, part in KINDS.items() if re.search(part, text)), text)


@dataclass(frozen=True)
class Case:
    """A module of another package, and the expected records of a default callback.

    `make` imports the package and returns module, training and validation loader. `layers` are the
    names in the history in order. `input_of` names the module whose input is ``"input"``, `head`
    the Linear whose input is the last hidden representation; None where there is no number of it.
    `reasons` are the kinds of the reasons of layers without a number, `warns` the kinds of the
    warnings, one each: see `KINDS`.
    `axes` are patterns of the layers whose samples do not lie along the first axis, and that axis;
    `views` rows belong to one sample, of which the first ones are measured.
    """

    package: str
    make: Callable[[], tuple[pl.LightningModule, Any, Any]]
    layers: str = ""
    input_of: str | None = None
    head: str | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)  # reasons by the rounding of kernels
    warns: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, int] = field(default_factory=dict)
    views: int = 1

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


def tree_of(module: Any) -> Any:
    """Return the package whose LightningModule it is: there are two, and they do not mix."""
    if isinstance(module, pl.LightningModule):
        return pl
    import lightning.pytorch

    return lightning.pytorch


class Kept:
    """A logger that keeps all metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[dict[str, float]] = []

    name, version = "kept", 0

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Drop them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.metrics.append({key: float(value) for key, value in metrics.items()})


class Witness:
    """Rows of layers in the last validation, recorded by plain hooks: the first call per batch."""

    def __init__(self, case: Case, layers: list[str]) -> None:
        self.case, self.layers = case, layers

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.outputs: dict[str, list[Tensor]] = {}
        self.batch: set[str] = set()
        self.handles = []
        for name in self.layers:
            module = pl_module.get_submodule(name)
            self.handles.append(module.register_forward_hook(self._output(name)))
        for name, key in ((self.case.input_of, "input"), (self.case.head, "last_hidden")):
            if name is not None:
                module = pl_module.get_submodule(name)
                hook = self._given(key)
                self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def on_validation_batch_start(self, *args: Any) -> None:
        self.batch = set()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for handle in self.handles:
            handle.remove()

    def rows(self, name: str) -> Tensor:
        return torch.cat([x.flatten(1) for x in self.outputs[name]])

    def _keep(self, name: str, held: Any) -> None:
        if name in self.batch:
            return
        self.batch.add(name)
        x = next(iter(_floating(held)), None)
        if x is not None:
            axis = next((a for p, a in self.case.axes.items() if fnmatch.fnmatch(name, p)), 0)
            x = x.detach().movedim(axis, 0)
            self.outputs.setdefault(name, []).append(x[: len(x) // self.case.views].clone())

    def _output(self, name: str) -> Callable[..., None]:
        return lambda _module, _args, output: self._keep(name, output)

    def _given(self, key: str) -> Callable[..., None]:
        return lambda _module, args, kwargs: self._keep(key, (args, kwargs))


def _floating(held: Any) -> Any:
    if isinstance(held, Tensor):
        if held.is_floating_point():
            yield held
    elif isinstance(held, Mapping):
        if isinstance(held.get("last_hidden_state"), Tensor):
            yield held["last_hidden_state"]
        for x in held.values():
            yield from _floating(x)
    elif isinstance(held, tuple | list):
        for x in held:
            yield from _floating(x)


@dataclass
class Fit:
    """State after a fit, to be repeated bit for bit, with its warnings and logged metrics."""

    tensors: list[Tensor]
    metrics: dict[str, float]
    random: Tensor
    modes: list[bool]
    attributes: list[str]
    hooks: int
    warnings: list[str]
    logged: list[dict[str, float]]


def fit(case: Case, folder: Any, callbacks: list[Callable[[Any], Any]]) -> Fit:
    """Train a fresh module of the case for two epochs with the callbacks."""
    pl.seed_everything(7, verbose=False)
    with contextlib.chdir(folder):  # some packages write into the working directory
        module, train, val = case.make()
    tree = tree_of(module)
    hooks = count_hooks(module)
    logger = type("Kept", (Kept, tree.loggers.Logger), {})()
    runner = tree.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=logger,
        callbacks=[make(tree) for make in callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
    )
    data = (
        {"datamodule": train}
        if val is None
        else {"train_dataloaders": train, "val_dataloaders": val}
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runner.fit(module, **data)
    tensors = [*module.state_dict().values()]
    for optimizer in runner.optimizers:
        for state in optimizer.state_dict()["state"].values():
            tensors += [x for x in state.values() if isinstance(x, Tensor)]
    metrics = {key: float(value) for key, value in runner.callback_metrics.items()}
    return Fit(
        tensors=[x.clone() for x in tensors if isinstance(x, Tensor)],
        metrics=metrics,
        random=torch.get_rng_state(),
        modes=[each.training for each in module.modules()],
        attributes=sorted(vars(module)),
        hooks=count_hooks(module) - hooks,
        warnings=[str(w.message) for w in caught if "IntrinsicDimension" in str(w.message)],
        logged=logger.metrics,
    )


def ours_in_lightning() -> Any:
    import lightning_id.lightning

    return lightning_id.lightning.IntrinsicDimensionCallback


@dataclass
class Outcome:
    """A case run three times."""

    plain: Fit
    watched: Fit
    records: list[dict[str, Any]]  # of the last validation
    rows: dict[str, Tensor]  # what the hooks of the test recorded then
    witness_hooks: int

    def of(self, estimator: str) -> dict[str, dict[str, Any]]:
        return {r["layer"]: r for r in self.records if r["estimator"] == estimator}

    @property
    def differences(self) -> list[str]:
        """What the callback changed in the training."""
        a, b = self.plain, self.watched
        theirs = {key: value for key, value in b.metrics.items() if not key.startswith("id")}
        same = {
            "weights and optimisers": len(a.tensors) == len(b.tensors)
            and all(torch.equal(x, y) for x, y in zip(a.tensors, b.tensors, strict=True)),
            "random numbers": torch.equal(a.random, b.random),
            "metrics": str(a.metrics) == str(theirs),
            "modes": a.modes == b.modes,
            "attributes": a.attributes == b.attributes,
        }
        return [name for name, is_same in same.items() if not is_same]


def run(case: Case, folder: Any) -> Outcome:
    """Run the case: without the callback, with it, and with plain hooks on the layers it chose."""
    plain = fit(case, folder, [])
    made = []

    def ours(tree: Any) -> Any:
        kind = IntrinsicDimensionCallback if tree is pl else ours_in_lightning()
        made.append(kind(charts=False, **case.options))
        return made[-1]

    watched = fit(case, folder, [ours])
    callback = made[-1]
    records = callback.history.records
    last = [r for r in records if r["step"] == records[-1]["step"]]
    names = dict.fromkeys(r["layer"] for r in last if r["reason"] is None)
    layers = [name for name in names if name not in ("input", "last_hidden")]
    witness = Witness(case, layers)

    def witnessing(tree: Any) -> Any:
        hooks = ("on_validation_start", "on_validation_batch_start", "on_validation_end")
        methods = {name: staticmethod(getattr(witness, name)) for name in hooks}
        return type("Witnessing", (tree.Callback,), methods)()

    witnessed = fit(case, folder, [witnessing])
    with_number = {r["layer"] for r in last if r["reason"] is None}
    rows = {name: witness.rows(name) for name in witness.outputs if name in with_number}
    return Outcome(plain, watched, last, rows, witnessed.hooks)


def deviations(outcome: Outcome) -> dict[str, tuple[float, int]]:
    """Relative difference of TwoNN, and difference of PCA, to brute force in float64, by layer."""
    twonn, pca = outcome.of("twonn"), outcome.of("pca")
    found = {}
    for name, rows in outcome.rows.items():
        if name in twonn and twonn[name]["reason"] is None:
            value = twonn_linear(rows)
            found[name] = (
                abs(twonn[name]["value"] / value - 1),
                int(pca[name]["value"] - pca_count(rows)) if pca[name]["reason"] is None else 10**6,
            )
    return found


def loader(data: Any, **kwargs: Any) -> DataLoader:
    return DataLoader(data, batch_size=BATCH, **kwargs)


class Trained(pl.LightningModule):
    """The module that a user of a network writes: one loss, trained and validated."""

    def __init__(self, net: nn.Module, loss: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.net = net
        self._loss = loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(self.net, batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(self.net, batch), batch_size=BATCH)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], 1e-3)


def is_sane(record: Mapping[str, Any]) -> bool:
    """Whether a dimension is one that rows of so many columns can have, and half of it by chance.

    Windows of a series one after another are no independent samples: darts has 18 of 12 columns.
    """
    value, error = record["value"], record["std_error"]
    return math.isfinite(value) and 0 <= value - 2 * error <= 1.5 * record["ambient_dimension"]
