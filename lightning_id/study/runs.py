"""Runs the missing trainings of a study, and writes its table, page and figure."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_id._checks import find_config
from lightning_id.history import History
from lightning_id.study.analysis import Analysis, analyse
from lightning_id.study.executors import EXECUTORS
from lightning_id.study.grid import Training, check, load_study, setting_keys, trainings_of
from lightning_id.study.table import (
    Row,
    columns_of,
    completed,
    dimensions,
    flattened,
    metrics,
    outcome_of,
    short_names,
    shown,
)
from lightning_id.study.training import FAILURE, LOG, RESULT, TRAINING, prepare

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
    out: str | Path | None = None,
    executor: str = "local",
    workers: int | None = None,
    page: str | Path | None = None,
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
    with runs.modules_known():
        check(runs.study, runs.trainings)
    return runs


class Runs:
    """The trainings of a study, each in a folder named after its configuration."""

    def __init__(self, source: Source, out: str | Path | None = None) -> None:
        self.study = load_study(source)
        self.trainings = trainings_of(self.study)
        self.path = Path("study.yaml") if isinstance(source, Mapping) else Path(source)
        self.folder = Path("runs", self.path.stem) if out is None else Path(out)
        self.names = short_names(setting_keys(self.trainings))

    def folder_of(self, training: Training) -> Path:
        """Return the folder of a training."""
        return self.folder / "runs" / training.identity

    def missing(self) -> list[Training]:
        """Return the trainings without a result; one that failed is tried again."""
        return [each for each in self.trainings if not (self.folder_of(each) / RESULT).exists()]

    def changed(self) -> list[str]:
        """Return finished trainings that had another configuration, and the differences."""
        known = {training.label: training for training in self.trainings}
        names = {training.identity for training in self.trainings}
        found = []
        for path in sorted(self.folder.glob(f"runs/*/{RESULT}")):
            spec = _read(path.with_name(TRAINING))
            if path.parent.name in names or spec.get("label") not in known:
                continue
            now = known[spec["label"]].config, self.study.callback, self.study.cli
            before, after = (
                flattened({**config, "callback": callback, "cli": cli})
                for config, callback, cli in ((spec["config"], spec["callback"], spec["cli"]), now)
            )
            keys = [key for key in before | after if before.get(key) != after.get(key)]
            differences = [f"{key} {before.get(key)} -> {after.get(key)}" for key in keys]
            found.append(f"{spec['label']} ({', '.join(differences)})")
        return found

    def rows(self) -> list[Row]:
        """Return the table: a row for each training, whether it has ended or not."""
        return completed([self._row(training) for training in self.trainings])

    def train(self, executor: str = "local", workers: int | None = None) -> None:
        """Run the trainings that have no result, below a progress bar."""
        missing = self.missing()
        folders = [self.folder_of(training) for training in missing]
        total, failed = len(self.trainings), 0
        columns = MofNCompleteColumn(), TextColumn("{task.fields[failed]}"), TimeElapsedColumn()
        progress = Progress(*Progress.get_default_columns(), *columns, speed_estimate_period=LONG)
        with self.modules_known(), progress as bar:
            n_done = total - len(missing)
            task = bar.add_task("trainings", total=total, completed=n_done, failed="")
            if self.study.rehearse and not n_done:
                self._rehearse(missing[:MOST_REHEARSALS], executor)
            for folder, training in zip(folders, missing, strict=True):
                prepare(folder, training, self.study)
            for folder in EXECUTORS[executor](folders, workers, self.study.resources):
                failed += not (folder / RESULT).exists()
                bar.update(task, advance=1, failed=f"{failed} failed" if failed else "")

    def write(self, page: str | Path | None = None) -> tuple[Analysis, Path]:
        """Write table, page and figure, and return the analysis and the page."""
        study, rows = self.study, self.rows()
        analysis = analyse(
            rows,
            predictors=columns_of(rows, study.predictors[:1]),
            groups=study.groups or None,
            settings=list(self.names.values()),
            others=columns_of(rows, study.predictors[1:]),
        )
        # A shipped file is named without its place on this machine.
        name = self.path.name if find_config(self.path.name) == str(self.path) else self.path
        path = analysis.save(
            self.folder / "page.md" if page is None else page,
            command=f"lightning-id study {name}",
            error=study.outcome.error,
            title=study.title or self.path.stem.replace("_", " ").capitalize(),
        )
        return analysis, path

    @contextmanager
    def modules_known(self) -> Iterator[None]:
        """Find modules next to the YAML and in the working folder too."""
        path = list(sys.path)
        sys.path[:0] = [str(self.path.parent.resolve()), str(Path.cwd())]
        try:
            yield
        finally:
            sys.path[:] = path

    def _row(self, training: Training) -> Row:
        folder = self.folder_of(training)
        settings = {name: shown(key, training.value(key)) for key, name in self.names.items()}
        row: Row = {"run": training.identity, "cell": training.cell, **settings}
        if not (folder / RESULT).exists():
            reason = _read(folder / FAILURE).get("reason", "not run yet")
            return row | {"error": None, "reason": reason}
        result = _read(folder / RESULT)
        history = History.load(folder)
        logged = metrics(history) | result.pop("metrics")
        absent = [name for name in self.study.outcome.metrics if name not in logged]
        reason = f"finished without {', '.join(absent)}" if absent else None
        row |= dimensions(history, self.study.predictors)
        row |= outcome_of(self.study.outcome, logged) | logged | result
        return {**row, "reason": reason}

    def _rehearse(self, trainings: Sequence[Training], executor: str) -> None:
        """Run one batch of the first training, so that a missing metric is found at once."""
        folder = self.folder / "rehearsal"
        for training in trainings:
            prepare(folder, training, self.study, is_rehearsal=True)
            list(EXECUTORS[executor]([folder], 1, self.study.resources))
            if (folder / RESULT).exists():
                shutil.rmtree(folder)
                return  # else it will fail alone, if another does not
        raise ValueError(
            f"{training.label}: one batch of it fails: {_read(folder / FAILURE)['reason']}; see"
            f" {folder / LOG}"
        )


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content
