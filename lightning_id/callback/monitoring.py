"""Measurements in a training loop of one's own, or of another library, without Lightning."""

from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, Dataset

from lightning_id._checks import close_names, whole_number
from lightning_id.callback.failures import FailurePolicy, OnError
from lightning_id.callback.running import Carried, Moment, RunningMeasurement, Start
from lightning_id.callback.schedule import AtSteps, Schedule
from lightning_id.callback.settings import VAL, SampleSet, Settings
from lightning_id.functional import get_estimator
from lightning_id.history import BEFORE_TRAINING, FIT, History, Validation, folder_of
from lightning_id.recording.activations import eager
from lightning_id.recording.modules import device_of
from lightning_id.recording.passes import arguments_of, batch_to, evaluating
from lightning_id.recording.processes import DistributedProcesses, SingleProcess, rank_here


class Monitor:
    """Measures the layers of a model on fixed samples while it trains: see `monitor`.

    Attributes:
        history: The `History` of all measurements.
        last_metrics: Metrics of the last measurement, by key.
        n_steps: Steps counted so far.
    """

    def __init__(
        self,
        model: nn.Module,
        samples: Iterable[Any] | Dataset[Any],
        every: int | Schedule | None = None,
        *,
        estimators: Sequence[str] = ("twonn", "pca"),
        on_error: OnError = "warn",
        prefix: str = "",
        data: str = VAL,
        batch_size: int = 64,
        forward: Callable[[nn.Module, Any], Any] | None = None,
        log: Callable[[dict[str, float], int], Any] | None = None,
        folder: str | Path | None = None,
        **options: Any,
    ) -> None:
        self.history = History()
        self.last_metrics: dict[str, float] = {}
        self.n_steps = 0
        self._model = unwrapped(model)
        if isinstance(samples, Dataset):
            samples = DataLoader(samples, batch_size)
        self._samples = SampleSet(data, samples)
        if every is None:
            every = Schedule()  # never
        elif not isinstance(every, Schedule):
            every = AtSteps([0], then_every=whole_number("every", every, least=1))
        self._every = every
        self._estimators = {name: get_estimator(name) for name in estimators}
        known = {*signature(Monitor).parameters, *signature(Settings).parameters} - {"options"}
        for name in options.keys() - known:
            raise TypeError(f"monitor() has no option {name!r}.{close_names(name, sorted(known))}")
        self._settings = Settings(**options)
        # A wrong name raises here, before anything is trained.
        self._layers = self._settings.select(self._model)
        self._prefix = prefix
        self._forward = forward or _call
        self._log = log
        self._folder = None if folder is None else folder_of(folder, prefix)
        self._written = 0, 0  # records and metrics in the files
        self._last_measured: int | None = None  # step
        self._carried = Carried()
        self._failures = FailurePolicy(on_error, "lightning_id.monitor")

    def __enter__(self) -> "Monitor":
        if self._every.at_step(0):
            self.measure(BEFORE_TRAINING)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._every.has_steps and self._last_measured != self.n_steps:
            self.measure()

    def step(self, epoch: int = 0) -> dict[str, float] | None:
        """Count a step of the optimiser, and measure if it is due.

        In a training on several ranks, call it on all of them.

        Args:
            epoch: The running epoch, counted from 0, for the history.

        Returns:
            The metrics of the measurement, as of `lightning_id.callback.keys.metrics_of`; None if
            none was due.
        """
        self.n_steps += 1
        return self.measure(epoch=epoch) if self._every.at_step(self.n_steps) else None

    def record(self, epoch: int = 0, **metrics: float | Tensor) -> None:
        """Add metrics of your own at this step to the history, for the report and its figures."""
        values = {name: float(value) for name, value in metrics.items()}
        self.history.append_metrics((FIT, epoch, self.n_steps), values)
        self._save()

    def measure(self, stage: str = FIT, epoch: int = 0) -> dict[str, float]:
        """Measure now, whatever the schedule.

        Args:
            stage: The stage in the history: ``"fit"`` or another name.
            epoch: The running epoch.

        Returns:
            The metrics by key; none if the measurement failed, which is a warning.
        """
        self._last_measured = self.n_steps
        moment = Moment(Validation(stage, epoch, self.n_steps), in_validation=False)
        several = distributed.is_initialized() and distributed.get_world_size() > 1
        running = RunningMeasurement(
            self._model,
            self._layers,
            self._settings,
            [self._samples],
            moment,
            self._carried,
            self._failures,
            DistributedProcesses() if several else SingleProcess(),
            self._pass,
        )
        try:
            with self._failures.guard("estimate the layers", running.cancel):
                running.estimate(self._estimators, self.history)
        finally:
            running.cancel()
        if not running.results:
            return {}
        self.last_metrics = running.metrics(self._prefix)
        self._save()
        if self._log is not None and rank_here() == 0:
            with self._failures.guard("log the metrics", lambda: None):
                self._log(self.last_metrics, self.n_steps)
        return self.last_metrics

    def _pass(self, loader: Iterable[Any], start: Start) -> None:
        """Pass the chosen batches through the model, and record each."""
        batches, measurement = start(loader)
        device = device_of(self._model)
        with eager(), evaluating(self._model):
            for batch in batches:
                moved = batch_to(batch, device)
                measurement.begin_batch(moved)
                self._forward(self._model, moved)
                measurement.end_batch()

    def _save(self) -> None:
        """Append the new records to the files in the folder."""
        if self._folder is not None and rank_here() == 0:
            with self._failures.guard("write the history", lambda: None):
                self.history.save(self._folder, *self._written)
                self._written = len(self.history.records), len(self.history.metrics)


def monitor(
    model: nn.Module,
    samples: Iterable[Any] | Dataset[Any],
    every: int | Schedule | None = None,
    **options: Any,
) -> Monitor:
    """Measure the layers of a model on fixed samples, in any PyTorch loop.

    Enter it around the loop, and call `Monitor.step` after every step of the optimiser. The first
    measurement is made on entering, before the first step, and the last one on leaving. Each is a
    pass in eval mode and without gradients; the training is bit-identical with and without it.
    On several ranks (accelerate, DDP) enter it and call `Monitor.step` on all of them.

    Args:
        model: The model; a DDP or compiled one is unwrapped.
        samples: A DataLoader or a Dataset of batches as the loop has them: the first element of a
            sequence, the items of a mapping or the batch as a whole goes into the model.
        every: Steps between measurements, or a schedule such as `lightning_id.LogSpaced`; None
            measures only where `Monitor.measure` is called.
        options: ``layers``, ``estimators``, ``n_samples``, ``seed``, ``reduce``, ``sample_dim``,
            ``rows_per_sample``, ``mask_key``, ``per_class``, ``max_features``, ``memory_limit``,
            ``last_hidden``, ``prefix``, ``positions``, ``tokens_per_sample`` and ``on_error`` as of
            `lightning_id.IntrinsicDimensionCallback`; ``batch_size`` of a Dataset;
            ``forward(model, batch)`` if a batch goes into the model in another way;
            ``log(metrics, step)``, such as that of an accelerator; ``data``, the name of the
            samples in the history; ``folder`` for its files, which ``lightning-id report`` reads.

    Returns:
        A context manager with ``step()``, ``measure()``, ``record()`` and ``history``.

    Raises:
        ValueError: If an argument is out of its range or a layer does not exist.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
        >>> with monitor(net, TensorDataset(x), every=2, layers=["0", "1"]) as watch:
        ...     for _ in range(5):
        ...         _ = watch.step()  # after optimizer.step()
        >>> [validation.step for validation in watch.history.validations()]
        [0, 2, 4, 5]
    """
    return Monitor(model, samples, every, **options)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside of wrappers for several ranks or devices, or of a compiled one."""
    wrappers = nn.parallel.DistributedDataParallel, nn.DataParallel
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        inner: Any = model.module if isinstance(model, wrappers) else model._orig_mod
        model = inner
    return model


def _call(model: nn.Module, batch: Any) -> Any:
    args, kwargs = arguments_of(batch, model.forward)
    return model(*args, **kwargs)
