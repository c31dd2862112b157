"""One training of a study, in a process of its own.

Its folder holds ``training.json`` (what to train), ``training.yaml`` (its configuration, as for
``fit --config``), ``log.txt`` (its output), the history and, written last and at once,
``result.json``, or ``failure.json`` with the reason.
"""

import json
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import ArgumentParser
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.utilities.model_helpers import is_overridden

from lightning_id._checks import version_of
from lightning_id.callback.callback import CallbackBase, IntrinsicDimensionCallback
from lightning_id.history import History
from lightning_id.study.grid import Study, Training
from lightning_id.study.table import has_predictor, metrics

TRAINING, CONFIG, LOG = "training.json", "training.yaml", "log.txt"
RESULT, FAILURE, REHEARSAL = "result.json", "failure.json", "rehearsal.json"
PACKAGES = "lightning-id", "torch", "pytorch-lightning", "lightning", "torchvision"
TRAIN = "train/"  # begins the names of metrics over the training data

Spec = Mapping[str, Any]


def prepare(folder: Path, training: Training, study: Study) -> None:
    """Write the files that the process of a training reads."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = {
        "label": training.label,
        "config": training.config,
        "cli": training.cli,
        "callback": training.callback,
        "metrics": study.outcome.metrics,
        "predictors": study.predictors,
    }
    write_json(folder / TRAINING, spec)
    config = _placed(training.config, folder.resolve())
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def run_child() -> None:
    """Run the training that the command line names, and end with the parent of this process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder, *options = sys.argv[1:]
    if not run_training(Path(folder), is_rehearsal=bool(options)):
        sys.exit(1)


def run_training(folder: Path, is_rehearsal: bool = False) -> bool:
    """Run the training of a folder, and return whether it succeeded; its files have the reason."""
    spec = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
    try:
        if is_rehearsal:
            write_json(folder / REHEARSAL, _rehearse(folder, spec))
        else:
            write_json(folder / RESULT, _train(folder, spec))
    except BaseException as error:
        traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
        write_json(folder / FAILURE, {"reason": reason})
        return False
    return True


def _end_with_parent() -> None:
    """End this process when the other end of its standard input closes."""
    while os.read(0, 1):
        pass
    os._exit(1)


def cli_class(name: str | None) -> type[LightningCLI]:
    """Return a class by ``"module:Class"``; None for LightningCLI over any model and data."""
    if name is None:
        return LightningCLI
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"`cli`: expected a module to import, got {module!r}: {error}") from error
    # Of pytorch_lightning or of lightning.pytorch, which are two class trees.
    if "LightningCLI" not in [each.__name__ for each in getattr(found, "__mro__", ())]:
        raise ValueError(f"`cli`: expected module:Class of a LightningCLI, got {name!r}")
    return cast(type[LightningCLI], found)


def callback_parser() -> ArgumentParser:
    """Return the parser of the arguments of the callback."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(IntrinsicDimensionCallback, "callback", instantiate=False)
    return parser


def write_json(path: Path, content: Any) -> None:
    """Write a file that appears whole or not at all."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(scratch, path)


def _train(folder: Path, spec: Spec) -> dict[str, Any]:
    started, started_cpu = time.monotonic(), time.process_time()
    cli = _fit(folder, spec)
    history = _history_of(cli.trainer)
    history.save(folder)
    if not history.records:
        raise RuntimeError("Expected a measurement by the end of the fit, got none")
    evaluated = _evaluated(cli, spec["metrics"], metrics(history))
    check_logged(spec["metrics"], metrics(history) | evaluated)
    return {
        "metrics": evaluated,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - started_cpu,
        "date": date.today().isoformat(),
        "versions": _versions(),
    }


def _rehearse(folder: Path, spec: Spec) -> dict[str, Any]:
    """Run one batch of everything, and return the names that there are and that are missing."""
    cli = _fit(folder, spec, "--trainer.fast_dev_run=1")
    history = _history_of(cli.trainer)
    ours = {key for each in _callbacks(cli.trainer) for key in each.last_metrics}
    logged = cli.trainer.callback_metrics.keys() - ours
    logged |= _evaluated(cli, spec["metrics"], logged).keys()
    absent = [name for name in spec["predictors"] if not has_predictor(history, name)]
    return {"metrics": sorted(logged), "absent": absent}


def check_logged(names: Iterable[str], logged: Iterable[str]) -> None:
    """Raise if a metric of the outcome was not logged."""
    known = sorted(logged)
    for name in names:
        if name not in known:
            raise ValueError(
                f"`outcome`: expected a metric that is logged, got {name!r}; logged are"
                f" {', '.join(known) or 'none'}"
            )


def _fit(folder: Path, spec: Spec, *options: str) -> LightningCLI:
    """Run the user's command ``fit`` with the callback added."""
    base = cli_class(spec["cli"])

    class StudyCLI(base):  # type: ignore[misc,valid-type]
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            trainer = super().instantiate_trainer(**kwargs)
            _add_callback(trainer, spec["callback"])
            if trainer.progress_bar_callback is not None:
                trainer.progress_bar_callback.disable()
            return trainer

    sys.argv[1:] = ["fit", "--config", str(folder / CONFIG), *options]
    return StudyCLI()


def _add_callback(trainer: Any, arguments: Spec | None) -> None:
    """Add the callback of the study to a Trainer, in place of all of the configuration."""
    others = [each for each in trainer.callbacks if not isinstance(each, CallbackBase)]
    if arguments is None and len(others) < len(trainer.callbacks):
        return
    trees = [each.__module__ for each in type(trainer).__mro__]
    is_unified = any(tree.startswith("lightning.pytorch") for tree in trees)
    module = import_module("lightning_id.lightning" if is_unified else "lightning_id")
    parser = callback_parser()
    # The training is made for the measurement: a failure of one is a failure of the other.
    given = parser.parse_object({"callback": {"on_error": "raise", **(arguments or {})}})
    values = vars(parser.instantiate_classes(given).callback)
    callback = module.IntrinsicDimensionCallback(**values)
    trainer.callbacks[:] = [callback, *others]  # Lightning keeps savers at the end


def _callbacks(trainer: Any) -> list[CallbackBase]:
    return [each for each in trainer.callbacks if isinstance(each, CallbackBase)]


def _history_of(trainer: Any) -> History:
    callbacks = _callbacks(trainer)
    history = History(
        [record for each in callbacks for record in each.history.records],
        callbacks[0].history.metrics,
    )
    for each in callbacks:
        history.spectra_by_set |= each.history.spectra_by_set
    return history


def _evaluated(cli: LightningCLI, names: Sequence[str], logged: Iterable[str]) -> dict[str, float]:
    """Return the metrics of a validation over the training data and of a test, where asked for."""
    trainer: Any = cli.trainer
    trainer.callbacks[:] = [x for x in trainer.callbacks if not isinstance(x, CallbackBase)]
    found: dict[str, float] = {}
    if any(name.startswith(TRAIN) and name not in set(logged) for name in names):
        (values,) = trainer.validate(cli.model, trainer.train_dataloader, verbose=False)
        found |= {f"{TRAIN}{name}": value for name, value in values.items()}
    if not set(names) <= {*logged, *found} and is_overridden("test_step", cli.model):
        for values in trainer.test(cli.model, datamodule=cli.datamodule, verbose=False):
            found |= values
    return found


def _placed(config: Spec, folder: Path) -> dict[str, Any]:
    """Return a configuration whose trainer and loggers write into a folder."""
    trainer = dict(config.get("trainer") or {}, default_root_dir=str(folder))
    loggers = trainer.get("logger")
    several = loggers if isinstance(loggers, list) else [loggers]
    placed = [_logger_in(each, folder) for each in several]
    if loggers is not None:
        trainer["logger"] = placed if isinstance(loggers, list) else placed[0]
    return {**config, "trainer": trainer}


def _logger_in(logger: Any, folder: Path) -> Any:
    arguments = logger.get("init_args") if isinstance(logger, dict) else None
    if not arguments or "save_dir" not in arguments:
        return logger
    return {**logger, "init_args": {**arguments, "save_dir": str(folder)}}


def _versions() -> str:
    # Run from a checkout, this package is not installed and has no version.
    found = [f"{name} {version_of(name)}" for name in PACKAGES if any(distributions(name=name))]
    return ", ".join([*found, f"Python {platform.python_version()}"])
