"""The subcommand `lightning-id report`."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightning_id.figures import depth_profile, moving_profile
from lightning_id.history import RECORDS_FILE, History
from lightning_id.history.queries import main_estimator
from lightning_id.report.page import comparison, html_page, markdown, metric_shown, png
from lightning_id.report.tables import tidy_csv


def _depth_profile(runs: Mapping[str, History]) -> bytes:
    if len(runs) > 1:
        return png(comparison(runs))
    (history,) = runs.values()
    return png(depth_profile(history, main_estimator(history)))


def _moving_profile(runs: Mapping[str, History]) -> bytes:
    if len(runs) > 1:
        raise ValueError(f"`runs`: expected one run for a moving picture, got {len(runs)}")
    (history,) = runs.values()
    return moving_profile(history, main_estimator(history), metric_shown(history))


FORMATS: dict[str, tuple[str, Callable[[Mapping[str, History]], str | bytes]]] = {
    "html": (".html", html_page),
    "png": (".png", _depth_profile),
    "gif": (".gif", _moving_profile),
    "csv": (".csv", tidy_csv),
    "markdown": (".md", markdown),
}
OF_ALL_SETS = ("csv", "gif")  # not a history for each sample set; the GIF shows the first


def write_report(
    runs: str | Path | Sequence[str | Path], out: str | Path | None = None, format: str = "html"
) -> Path:
    """Write a report of the histories of runs.

    Args:
        runs: The folder of a run, or the CSV file of its records; the profiles of several are
            overlaid.
        out: The file; None for ``report`` in the folder of the run, in the working folder if there
            are several.
        format: ``"html"``, ``"markdown"`` (findings and tables), ``"png"`` (the depth profile),
            ``"gif"`` (the profile of one run as it grows), or ``"csv"`` (the records of all runs,
            with a column that names the run).

    Returns:
        The file.

    Raises:
        ValueError: If the format is none of these, there is no run, a file is no history, or there
            are several runs for a GIF.
        FileNotFoundError: If a run has no history.
    """
    if format not in FORMATS:
        raise ValueError(f"`format`: expected one of {', '.join(FORMATS)}, got {format!r}")
    suffix, write = FORMATS[format]
    runs = [runs] if isinstance(runs, (str, Path)) else runs
    if not runs:
        raise ValueError("`runs`: expected at least one folder of a run, got none")
    path = _beside(runs) / f"report{suffix}" if out is None else Path(out)
    histories = load_runs(runs)
    content = write(histories if format in OF_ALL_SETS else _by_set(histories))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def main(args: Sequence[str]) -> None:
    """Run `lightning-id report` with the arguments that follow it."""
    parser = argparse.ArgumentParser(
        prog="lightning-id report",
        description="Write one page about the measurements of one or several runs.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder with a history.csv")
    parser.add_argument("--out", metavar="FILE", help="default: report.html in the folder of RUN")
    parser.add_argument("--format", choices=FORMATS, default="html", help="default: html")
    options = parser.parse_args(args)
    try:
        path = write_report(options.runs, options.out, options.format)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    sys.stdout.write(f"{path}\n")


def load_runs(paths: Sequence[str | Path]) -> dict[str, History]:
    """Read histories, each once, by the part of its path that distinguishes it from the others."""
    files = list(dict.fromkeys(_history_file(Path(path)) for path in paths))
    return {name: History.load(file) for name, file in zip(_names(files), files, strict=True)}


def _by_set(runs: Mapping[str, History]) -> dict[str, History]:
    """Return a history for each sample set, named after its run and, of several, the set."""
    found: dict[str, History] = {}
    for run, history in runs.items():
        sets = history.sample_sets()
        several = {f"{run} ({name})": history.of_set(name) for name in sets}
        found |= several if len(sets) > 1 else {run: history}
    return found


def _beside(runs: Sequence[str | Path]) -> Path:
    if len(runs) != 1:
        return Path()
    path = Path(runs[0])
    return path if path.is_dir() else path.parent


def _history_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        raise FileNotFoundError(
            f"Expected the folder of a run or its {RECORDS_FILE}, got {path}, which does not exist"
        )
    if (path / RECORDS_FILE).exists():
        return path / RECORDS_FILE
    below = ", ".join(sorted(str(file.parent) for file in path.rglob(RECORDS_FILE)))
    advice = "the callback writes it at the first validation that it measures"
    raise FileNotFoundError(
        f"Expected {RECORDS_FILE} in the folder {path}, got none; "
        + (f"there is one in {below}" if below else advice)
    )


def _names(files: Sequence[Path]) -> list[str]:
    paths = [
        file.parent if file.name == RECORDS_FILE else file for file in map(Path.resolve, files)
    ]
    if len(set(paths)) == 1:
        return ["/".join(paths[0].parts[-2:])] * len(paths)
    common = Path(os.path.commonpath(paths))
    common = common.parent if common in paths else common  # a run may lie in the folder of another
    return [str(path.relative_to(common)) for path in paths]
