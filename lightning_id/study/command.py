"""The subcommand `lightning-id study`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_id.history.tables import aligned
from lightning_id.study.analysis import Analysis, analyse
from lightning_id.study.executors import EXECUTORS
from lightning_id.study.page import verdicts
from lightning_id.study.runs import prepare_study
from lightning_id.study.table import PREDICTORS, columns_of, with_settings

_FILES = ".yaml", ".yml", ".json"


def main(args: Sequence[str]) -> None:
    """Run the subcommand."""
    parser = _parser()
    options = parser.parse_args(args)
    try:
        is_study = Path(options.study[0]).suffix in _FILES
        written = _train(options) if is_study else _analyse(options)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped. Finished trainings are kept: the same command continues.")
    if written is not None:
        analysis, path = written
        sys.stdout.write("".join(f"{line}\n" for line in [*verdicts(analysis), path]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-id study",
        description="Train a grid of any configuration of LightningCLI, or take finished runs, and"
        " test whether the dimension of the last hidden layer predicts the error. Finished"
        " trainings are not repeated.",
    )
    parser.add_argument(
        "study",
        nargs="+",
        metavar="STUDY.yaml|RUN",
        help="the YAML of a study, or folders of finished runs",
    )
    parser.add_argument("--page", metavar="FILE.md", help="default: page.md in the folder")
    trained = parser.add_argument_group("a study that is trained")
    trained.add_argument("--out", metavar="FOLDER", help="default: runs/ and the name of the YAML")
    trained.add_argument("--executor", choices=EXECUTORS, default="local", help="default: local")
    trained.add_argument("--workers", type=int, help="trainings at a time; default: all cores")
    trained.add_argument("--dry-run", action="store_true", help="print the trainings, and no more")
    finished = parser.add_argument_group("finished runs")
    finished.add_argument("--error", metavar="METRIC", help="such as val_loss or '1 - val_acc'")
    finished.add_argument(
        "--predictors", nargs="+", metavar="NAME", default=PREDICTORS[:1], help="such as peak"
    )
    finished.add_argument("--groups", nargs="+", metavar="SETTING", help="default: all that vary")
    return parser


def _train(options: argparse.Namespace) -> tuple[Analysis, Path] | None:
    """Train a study, or print its trainings and how they ended."""
    path, *others = options.study
    if others:
        raise ValueError(f"expected one study, got {', '.join(options.study)}")
    runs = prepare_study(path, options.out, options.executor, options.workers, options.page)
    changed = runs.changed()
    if changed:
        sys.stderr.write(
            f"{len(changed)} finished trainings in {runs.folder} had another configuration, and are"
            " kept there but not used:\n" + "\n".join(f"  {text}" for text in changed) + "\n"
        )
    if options.dry_run:
        names = list(runs.names.values())
        body = [
            [row["run"], *[str(row[name]) for name in names], row["reason"] or "done"]
            for row in runs.rows()
        ]
        sys.stdout.write(f"{aligned([['training', *names, 'state'], *body])}\n")
        return None
    runs.train(options.executor, options.workers)
    return runs.write(options.page)


def _analyse(options: argparse.Namespace) -> tuple[Analysis, Path]:
    if options.error is None:
        raise ValueError("`--error`: expected a metric, for example '1 - val_acc', got none")
    rows, settings = with_settings(options.study, options.predictors)
    analysis = analyse(
        rows,
        options.error,
        predictors=columns_of(rows, options.predictors),
        groups=options.groups,
        settings=settings,
    )
    page = Path("page.md") if options.page is None else Path(options.page)
    return analysis, analysis.save(page, error=options.error)
