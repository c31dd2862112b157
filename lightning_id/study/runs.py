"""Runs the missing trainings of a study, and writes its table, page and figure."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lightning_id._checks import find_config
from lightning_id.history import History
from lightning_id.study.analysis import Analysis, analyse
from lightning_id.study.checks import check
from lightning_id.study.executors import EXECUTORS, Processes
from lightning_id.study.grid import Training, load_study, setting_keys, trainings_of
from lightning_id.study.table import (
    Row,
    completed,
    dimensions,
    flattened,
    metrics,
    outcome_of,
    sample_sets,
    short_names,
    shown,
)
from lightning_id.study.training import (
    FAILURE,
    LOG,
    REHEARSAL,
    RESULT,
    TRAINING,
    check_logged,
    prepare,
)

Source = str | Path | Mapping[str, Any]
MOST_REHEARSALS = 3
LONG = 10**6  # seconds of the past from which the time left is estimated


def run(
    study: Source,
    out: str | Path | None = None,
    executor: str = "local",
    workers: int | None = None,
    page: str | Path | None = None,
) -> Analysis:
    """Run the missing trainings of a study, and write its table, its page and its figure.

    Args:
        study: The YAML of a study, or its content.
        out: Its folder; None for ``runs/`` and the name of the YAML. One process at a time may use
            a folder.
        executor: ``"local"`` or ``"ray"``.
        workers: Trainings at a time; None for as many as the machine has cores, or GPUs if the
            study asks for some.
        page: The Markdown file of the page; None for ``page.md`` in the folder. Figure and table
            are written next to it, with the same name.

    Returns:
        The analysis; its `rows` are the table.

    Raises:
        ValueError: If an argument is out of its range, or the study or the configuration of one of
            its trainings is invalid; nothing was trained then.
        FileNotFoundError: If there is no such YAML.
    """
    runs = prepare_study(study, out, executor, workers, page)
    runs.train(executor, workers)
    return runs.write(page)[0]


def prepare_study(
    study: Source,
    out: str | Path | None,
    executor: str,
    workers: int | None,
    page: str | Path | None,
) -> "Runs":
    """Check all arguments and configurations, and return the trainings of a study."""
    if executor not in EXECUTORS:
        raise ValueError(f"`executor`: expected one of {', '.join(EXECUTORS)}, got {executor!r}")
    if executor == "ray" and find_spec("ray") is None:
        raise ValueError("`executor`: 'ray' needs the package ray: pip install 'lightning-id[ray]'")
    if page is not None and Path(page).suffix != ".md":
        raise ValueError(f"`page`: expected a file that ends in .md, got {str(page)!r}")
    if workers is not None and workers < 1:
        raise ValueError(f"`workers`: expected at least 1, got {workers}")
    runs = Runs(study, out)
    names = list(runs.names.values())
    for name in {name for columns in runs.study.groups.values() for name in columns} - {*names}:
        raise ValueError(f"`groups`: expected some of {', '.join(names)}, got {name!r}")
    with _modules_known(runs.modules):
        check(runs.study, runs.trainings)
    return runs


class Runs:
    """The trainings of a study, each in a folder named after its configuration."""

    def __init__(self, source: Source, out: str | Path | None = None) -> None:
        self.study = load_study(source)
        self.trainings = trainings_of(self.study)
        is_file = not isinstance(source, Mapping)
        self.path = Path(source) if is_file else Path("study.yaml")  # type: ignore[arg-type]
        self.folder = Path("runs", self.path.stem) if out is None else Path(out)
        # Classes of the configurations are looked for next to the YAML and in the working folder.
        self.modules = [str(self.path.parent.resolve()), str(Path.cwd())]
        self._keys = setting_keys(self.trainings)
        self.names = short_names(self._keys)

    def folder_of(self, training: Training) -> Path:
        """Return the folder of a training."""
        return self.folder / "runs" / training.identity

    def missing(self) -> list[Training]:
        """Return the trainings without a result; one that failed is tried again."""
        return [each for each in self.trainings if not (self.folder_of(each) / RESULT).exists()]

    def status(self, training: Training) -> str:
        """Return how a training ended."""
        folder = self.folder_of(training)
        if (folder / RESULT).exists():
            return "done"
        return str(_read(folder / FAILURE).get("reason", "not run yet"))

    def changed(self) -> list[str]:
        """Return finished trainings that had another configuration, and the differences."""
        names = {training.identity for training in self.trainings}
        known = {training.label: training for training in self.trainings}
        found = []
        for path in sorted(self.folder.glob(f"runs/*/{RESULT}")):
            spec = _read(path.with_name(TRAINING))
            if path.parent.name not in names and spec.get("label") in known:
                found.append(f"{spec['label']} ({_difference(spec, known[spec['label']])})")
        return found

    def rows(self) -> list[Row]:
        """Return the table: a row for each training, whether it has ended or not."""
        return completed([self._row(training) for training in self.trainings])

    def train(self, executor: str = "local", workers: int | None = None) -> None:
        """Run the trainings that have no result, below a progress bar."""
        missing = self.missing()
        folders = [self.folder_of(training) for training in missing]
        total, failed = len(self.trainings), 0
        with _modules_known(self.modules), _bar() as bar:
            n_done = total - len(missing)
            task = bar.add_task("trainings", total=total, completed=n_done, failed="")
            if self.study.rehearse and not n_done:
                self._rehearse(missing[:MOST_REHEARSALS])
            for folder, training in zip(folders, missing, strict=True):
                shutil.rmtree(folder, ignore_errors=True)  # half of one, failed
                prepare(folder, training, self.study)
            for folder in EXECUTORS[executor](folders, workers, self.study.resources):
                failed += not (folder / RESULT).exists()
                bar.update(task, advance=1, failed=f"{failed} failed" if failed else "")

    def write(self, page: str | Path | None = None) -> tuple[Analysis, Path]:
        """Write table, page and figure, and return the analysis and the page."""
        study, rows = self.study, self.rows()
        sets = sample_sets(rows)
        first, *others = study.predictors
        # A shipped file is named without its place on this machine.
        name = self.path.name if find_config(self.path.name) == str(self.path) else self.path
        analysis = analyse(
            rows,
            error="error",
            predictors=[f"{first}_{data}" for data in sets],
            groups=study.groups or None,
            settings=list(self.names.values()),
            others=[f"{other}_{data}" for other in others for data in sets],
        )
        path = self.folder / "page.md" if page is None else Path(page)
        command = f"lightning-id study {name}"
        return analysis, analysis.save(path, command=command, error=study.outcome.error)

    def _row(self, training: Training) -> Row:
        folder = self.folder_of(training)
        settings = {self.names[key]: shown(key, training.value(key)) for key in self._keys}
        row: Row = {"run": training.identity, "cell": training.cell, **settings}
        if not (folder / RESULT).exists():
            return row | {"error": None, "reason": self.status(training)}
        result = _read(folder / RESULT)
        history = History.load(folder)
        logged = metrics(history) | result.pop("metrics")
        absent = [name for name in self.study.outcome.metrics if name not in logged]
        reason = f"finished without {', '.join(absent)}" if absent else None
        row |= dimensions(history, self.study.predictors)
        row |= outcome_of(self.study.outcome, logged) | logged | result
        return {**row, "reason": reason}

    def _rehearse(self, trainings: Sequence[Training]) -> None:
        """Run one batch of the first training, so that a missing metric is found at once."""
        folder = self.folder / "rehearsal"
        for training in trainings:
            shutil.rmtree(folder, ignore_errors=True)
            prepare(folder, training, self.study)
            Processes().run(folder, {}, "--rehearse")
            if (folder / REHEARSAL).exists():
                break  # else it will fail alone, if another does not
        else:
            raise ValueError(
                f"{training.label}: one batch of it fails: {_read(folder / FAILURE)['reason']}; see"
                f" {folder / LOG}"
            )
        found = _read(folder / REHEARSAL)
        check_logged(self.study.outcome.metrics, found["metrics"])
        for name in found["absent"]:
            raise ValueError(
                f"`predictors`: expected a layer and an estimator that are measured, got {name!r};"
                f" {folder / LOG} has the layers"
            )


def _difference(spec: Mapping[str, Any], training: Training) -> str:
    before, now = (
        flattened({**each["config"], "callback": each["callback"], "cli": each["cli"]})
        for each in (spec, vars(training))
    )
    keys = [key for key in before | now if before.get(key) != now.get(key)]
    return ", ".join(f"{key} {before.get(key)} -> {now.get(key)}" for key in keys)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        speed_estimate_period=LONG,
    )


@contextmanager
def _modules_known(folders: Sequence[str]) -> Iterator[None]:
    """Let this process, and the ones that begin meanwhile, find modules in these folders too."""
    path, variable = list(sys.path), os.environ.get("PYTHONPATH")
    sys.path[:0] = folders
    # The others import all that this one does: a checkout, an editable installation.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        yield
    finally:
        sys.path[:] = path
        del os.environ["PYTHONPATH"]
        if variable is not None:
            os.environ["PYTHONPATH"] = variable
