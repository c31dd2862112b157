"""The subcommand `lightning-id report`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_id.report.page import comparison, html_page, markdown
from lightning_id.report.pictures import PICTURES, png
from lightning_id.report.runs import Run, load_runs
from lightning_id.report.tables import tidy_csv

SUFFIXES = {"html": ".html", "png": ".png", "csv": ".csv", "markdown": ".md"}


def write_report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    format: str = "html",
) -> Path:
    """Make a report of the histories of runs.

    Args:
        runs: The folder of a run, or the CSV file of its records; several are laid over each other.
        out: The file; None for ``report`` in the folder of the run, in the working folder if there
            are several.
        format: ``"html"``, ``"markdown"`` (findings and tables), ``"png"`` (the depth profile), or
            ``"csv"`` (the records of all runs, with a column that names the run).

    Returns:
        The file.

    Raises:
        ValueError: If the format is none of these, there is no run, or a file is no history.
        FileNotFoundError: If a run has no history.
    """
    if format not in SUFFIXES:
        raise ValueError(f"`format`: expected one of {', '.join(SUFFIXES)}, got {format!r}")
    runs = [runs] if isinstance(runs, (str, Path)) else runs
    if not runs:
        raise ValueError("`runs`: expected at least one folder of a run, got none")
    path = _beside(runs) / f"report{SUFFIXES[format]}" if out is None else Path(out)
    content = _content(load_runs(runs), format)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def main(args: Sequence[str]) -> None:
    """Run the subcommand.

    Args:
        args: What follows ``lightning-id report``.
    """
    parser = argparse.ArgumentParser(
        prog="lightning-id report",
        description="Make one page of what was measured in one or several runs.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder with a history.csv")
    parser.add_argument("--out", metavar="FILE", help="default: report.html in the folder of RUN")
    parser.add_argument("--format", choices=SUFFIXES, default="html", help="default: html")
    options = parser.parse_args(args)
    try:
        path = write_report(options.runs, options.out, options.format)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    sys.stdout.write(f"{path}\n")


def _beside(runs: Sequence[str | Path]) -> Path:
    if len(runs) != 1:
        return Path()
    path = Path(runs[0])
    return path if path.is_dir() else path.parent


def _content(runs: Sequence[Run], format: str) -> bytes:
    if format == "png":
        figure = PICTURES[0].draw(runs[0].history) if len(runs) == 1 else comparison(runs)
        return png(figure)
    write = {"html": html_page, "markdown": markdown, "csv": tidy_csv}[format]
    return write(runs).encode()
