"""One training of a study, in a process of its own.

Its folder holds ``training.json`` (what to train), ``training.yaml`` (its configuration, as for
``fit --config``), ``log.txt`` (its output), the history and, written last and at once,
``result.json``, or ``failure.json`` with the reason.
"""

import json
import os
import platform
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from copy import deepcopy
from datetime import date
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.utilities.model_helpers import is_overridden

from lightning_id._checks import version_of
from lightning_id.callback.callback import CallbackBase
from lightning_id.history import History
from lightning_id.study.grid import Study, Training, callback_parser, cli_class
from lightning_id.study.table import has_predictor, metrics

TRAINING, CONFIG, LOG = "training.json", "training.yaml", "log.txt"
RESULT, FAILURE = "result.json", "failure.json"
PACKAGES = "lightning-id", "torch", "pytorch-lightning", "lightning", "torchvision"
TRAIN = "train/"  # begins the names of metrics over the training data

Spec = Mapping[str, Any]


def prepare(folder: Path, training: Training, study: Study, is_rehearsal: bool = False) -> None:
    """Write the files that the process of a training reads, in place of all that is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spec = {
        "label": training.label,
        "config": training.config,
        "cli": study.cli,
        "callback": study.callback,
        "metrics": study.outcome.metrics,
        "predictors": study.predictors,
        "is_rehearsal": is_rehearsal,
    }
    write_json(folder / TRAINING, spec)
    config = _placed(training.config, str(folder.resolve()))
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def run_child() -> None:
    """Run the training whose folder the command line names, and end with the parent process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = Path(sys.argv[1])
    try:
        spec = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
        write_json(folder / RESULT, _train(folder, spec))
    except BaseException as error:
        traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
        write_json(folder / FAILURE, {"reason": reason})
        sys.exit(1)


def write_json(path: Path, content: Any) -> None:
    """Write a file that appears whole or not at all."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(scratch, path)


def _end_with_parent() -> None:
    """End this process when the other end of its standard input closes."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _train(folder: Path, spec: Spec) -> dict[str, Any]:
    """Fit, save the history and return the result; a rehearsal is one batch of everything."""
    started, started_cpu = time.monotonic(), time.process_time()
    cli = _fit(folder, spec)
    history = _history_of(cli.trainer)
    history.save(folder)
    if not history.records:
        raise RuntimeError("Expected a measurement by the end of the fit, got none")
    evaluated = _evaluated(cli, spec["metrics"], metrics(history))
    logged = sorted(metrics(history) | evaluated)
    for name in spec["metrics"]:
        if name not in logged:
            raise ValueError(
                f"`outcome`: expected a metric that is logged, got {name!r}; logged are"
                f" {', '.join(logged) or 'none'}"
            )
    for name in spec["predictors"]:
        if spec["is_rehearsal"] and not has_predictor(history, name):
            raise ValueError(
                f"`predictors`: expected a layer and an estimator that are measured, got {name!r}"
            )
    return {
        "metrics": evaluated,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - started_cpu,
        "date": date.today().isoformat(),
        "versions": _versions(),
    }


def _fit(folder: Path, spec: Spec) -> Any:
    """Run the user's command ``fit`` with the callback added."""

    class StudyCLI(cli_class(spec["cli"])):  # type: ignore[misc]
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            trainer = super().instantiate_trainer(**kwargs)
            _add_callback(trainer, spec["callback"])
            if trainer.progress_bar_callback is not None:
                trainer.progress_bar_callback.disable()
            return trainer

    options = ["--trainer.fast_dev_run=1"] * spec["is_rehearsal"]
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
    parser = callback_parser(module.IntrinsicDimensionCallback)
    # The training is made for the measurement: a failure of one is a failure of the other.
    given = parser.parse_object({"callback": {"on_error": "raise", **(arguments or {})}})
    callback = parser.instantiate_classes(given).callback
    trainer.callbacks[:] = [callback, *others]  # Lightning keeps savers at the end


def _history_of(trainer: Any) -> History:
    """Return one history of all our callbacks."""
    histories = [each.history for each in trainer.callbacks if isinstance(each, CallbackBase)]
    records = [record for history in histories for record in history.records]
    merged = History(records, histories[0].metrics)
    for history in histories:
        merged.spectra_by_set |= history.spectra_by_set
    return merged


def _evaluated(cli: Any, names: Iterable[str], logged: Iterable[str]) -> dict[str, float]:
    """Return the metrics of a validation over the training data and of a test, where asked for."""
    trainer, missing = cli.trainer, set(names) - set(logged)
    trainer.callbacks[:] = [x for x in trainer.callbacks if not isinstance(x, CallbackBase)]
    found: dict[str, float] = {}
    if any(name.startswith(TRAIN) for name in missing):
        (values,) = trainer.validate(cli.model, trainer.train_dataloader, verbose=False)
        found |= {f"{TRAIN}{name}": value for name, value in values.items()}
    if missing - found.keys() and is_overridden("test_step", cli.model):
        for values in trainer.test(cli.model, datamodule=cli.datamodule, verbose=False):
            found |= values
    return found


def _placed(config: Spec, folder: str) -> dict[str, Any]:
    """Return a configuration whose trainer and loggers write into a folder."""
    trainer = deepcopy(config.get("trainer")) or {}
    loggers = trainer.get("logger")
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        arguments = (logger.get("init_args") if isinstance(logger, dict) else None) or {}
        if "save_dir" in arguments:
            arguments["save_dir"] = folder
    return {**config, "trainer": trainer | {"default_root_dir": folder}}


def _versions() -> str:
    # Run from a checkout, this package is not installed and has no version.
    found = [f"{name} {version_of(name)}" for name in PACKAGES if any(distributions(name=name))]
    return ", ".join([*found, f"Python {platform.python_version()}"])
