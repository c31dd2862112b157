"""The subcommand `lightning-id study`."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lightning_id._checks import find_config
from lightning_id.experiments.mnist import MNISTDataModule
from lightning_id.study.executors import EXECUTORS
from lightning_id.study.figure import draw_study
from lightning_id.study.grid import Settings, load_grid
from lightning_id.study.page import study_page
from lightning_id.study.run import available_digits
from lightning_id.study.runs import Runs, write_csv


def run_study(
    config: str | Path,
    out: str | Path | None = None,
    executor: str = "local",
    workers: int | None = None,
    page: str | Path | None = None,
) -> Path:
    """Run the missing trainings of a study, and write its table and its page.

    Args:
        config: The YAML of its grid, see `lightning_id.study.grid`.
        out: Its folder; None for ``runs/`` and the name of the YAML. One process at a time may use
            a folder.
        executor: ``"local"``, ``"here"`` (in this process) or ``"ray"``.
        workers: Trainings at a time; None for as many as there are cores.
        page: The Markdown file of the page; None for ``page.md`` in the folder. Figure and table
            are written beside it, with the same name.

    Returns:
        The page.

    Raises:
        ValueError: If an argument is out of its range, or the YAML is no grid.
        FileNotFoundError: If there is no such YAML.
    """
    trainings = _trainings(config, executor, workers, page)
    return _carry_out(trainings, config, out, executor, workers, page)


def main(args: Sequence[str]) -> None:
    """Run the subcommand."""
    parser = argparse.ArgumentParser(
        prog="lightning-id study",
        description="Train networks over a grid, and test whether the dimension of their last"
        " hidden layer predicts the test error. Finished trainings are not repeated.",
    )
    parser.add_argument("config", metavar="YAML", help="the grid, e.g. configs/study_mnist.yaml")
    parser.add_argument("--out", metavar="FOLDER", help="default: runs/ and the name of the YAML")
    parser.add_argument("--executor", choices=EXECUTORS, default="local", help="default: local")
    parser.add_argument("--workers", type=int, help="trainings at a time; default: all cores")
    parser.add_argument("--page", metavar="FILE.md", help="default: page.md in the folder")
    options = parser.parse_args(args)
    given = vars(options)
    try:
        trainings = _trainings(**{k: v for k, v in given.items() if k != "out"})
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    try:
        path = _carry_out(trainings, **given)
    except KeyboardInterrupt:
        sys.exit("Stopped. Finished trainings are kept: the same command continues.")
    sys.stdout.write(f"{path}\n")


def _trainings(
    config: str | Path, executor: str, workers: int | None, page: str | Path | None
) -> list[Settings]:
    """Check all arguments, and return the trainings of the study."""
    if executor not in EXECUTORS:
        raise ValueError(f"`executor`: expected one of {', '.join(EXECUTORS)}, got {executor!r}")
    if executor == "ray" and find_spec("ray") is None:
        raise ValueError("`executor`: 'ray' needs the package ray: pip install 'lightning-id[ray]'")
    if page is not None and Path(page).suffix != ".md":
        raise ValueError(f"`page`: expected a file that ends in .md, got {str(page)!r}")
    if workers is not None and workers < 1:
        raise ValueError(f"`workers`: expected at least 1, got {workers}")
    if executor == "here" and workers not in (None, 1):
        raise ValueError(
            f"`workers`: expected 1 in this process, got {workers}; the executor 'local' takes more"
        )
    load_grid(config)  # its errors are raised before anything is downloaded
    MNISTDataModule().prepare_data()
    return load_grid(config, available_digits())


def _carry_out(
    trainings: Sequence[Settings],
    config: str | Path,
    out: str | Path | None,
    executor: str,
    workers: int | None,
    page: str | Path | None,
) -> Path:
    runs = Runs(Path("runs") / Path(config).stem if out is None else out)
    _run_missing(runs, trainings, executor, workers)
    rows = runs.rows(trainings)
    path, table = runs.folder / "page.md", runs.folder / "table.csv"
    write_csv(table, rows)
    if page is not None:
        path, table = Path(page), Path(page).with_suffix(".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(table, rows)
    picture = path.with_suffix(".png")
    draw_study(rows).savefig(picture)
    # A shipped file is named without its place on this machine.
    name = Path(config).name
    asked = name if find_config(name) == str(config) else config
    text = study_page(rows, picture.name, table.name, f"lightning-id study {asked}")
    path.write_text(text, encoding="utf-8")
    return path


def _run_missing(
    runs: Runs, trainings: Sequence[Settings], executor: str, workers: int | None
) -> None:
    missing = [settings for settings in trainings if not runs.is_finished(settings)]
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    failed = 0
    with bar:
        done = len(trainings) - len(missing)
        task = bar.add_task("trainings", total=len(trainings), completed=done, failed="")
        for outcome in EXECUTORS[executor](missing, workers):
            runs.save(outcome)
            failed += outcome.result is None
            bar.update(task, advance=1, failed=f"{failed} failed" if failed else "")
