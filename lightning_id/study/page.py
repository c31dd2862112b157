"""The page of a study, as Markdown: the verdict first, then its reasons."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import fields

from lightning_id.history.tables import markdown_table
from lightning_id.study.analysis import (
    FACTORS,
    OUTCOME,
    SEED,
    Analysis,
    analyse,
    correlation,
    varied,
)
from lightning_id.study.figure import title_of
from lightning_id.study.grid import Settings
from lightning_id.study.runs import Row
from lightning_id.study.statistics import (
    LEVEL,
    RESAMPLES,
    RESAMPLING_SEED,
    Coefficient,
    Correlation,
)
from lightning_id.study.verdict import ANSWERS, RULES, SIGNIFICANT, verdict

MEASURES = "id_train", "id_test"
OTHERS = "peak_train", "peak_test", "peak_over_last_train", "peak_over_last_test"
IMAGES = {"id_train": "On training images", "id_test": "On test images"}


def study_page(rows: Sequence[Row], picture: str, table: str, command: str) -> str:
    """Return the page."""
    analyses = {measure: analyse(rows, measure) for measure in MEASURES}
    verdicts = [f"**{IMAGES[name]}:** {verdict(each).text}" for name, each in analyses.items()]
    parts = [
        "# Does the dimension of the last hidden layer predict generalisation?",
        f"Written by `{command}`; nothing here is typed by hand.",
        *verdicts,
        f"![Last hidden dimension against test error]({picture})",
        "*Each point is one training; a logarithmic axis where the errors range widely. All numbers"
        f" of all trainings: [{table}]({table}).*",
        "## With the test error",
        "Pearson's r and Spearman's rank correlation with bootstrap intervals, the p-value of a"
        " permutation test, and the range of r when each cell in turn is left out. A cell is a"
        " choice of settings; its runs differ in the seed, and are resampled, exchanged and left"
        f" out together. Over all runs the intervals are at {100 * LEVEL:g} %; within the groups"
        " they are wider, so that all of them hold together with as much.",
        *[f"{IMAGES[name]}:\n\n{_correlations(each)}" for name, each in analyses.items()],
        "## With the settings",
        "Pearson's r over all runs. A setting that moves both the dimension and the error"
        " correlates them, whether or not one depends on the other.",
        _with_settings(rows),
        "## Other numbers",
        "The gap is the accuracy on the training labels, wrong ones included, less the accuracy on"
        " the test images. The peak is the largest dimension of a profile.",
        _other_numbers(rows),
        _where_the_peak_is(rows),
        "## Cells",
        "Mean ± standard deviation over the seeds of a cell.",
        _cells(rows),
        "## How the verdict follows",
        SIGNIFICANT + " The first rule that holds decides:",
        "\n".join(f"- **{kind}** ({RULES[kind]}). {ANSWERS[kind]}" for kind in RULES),
        "## How it was made",
        "\n".join(f"- {fact}" for fact in _how_made(rows)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _correlations(analysis: Analysis) -> str:
    over_all = ("all runs", analysis.over_all)
    named = [over_all, *[(group.label, group.correlation) for group in analysis.groups]]
    head = ["group", "runs", "cells", "level", "r", "p", "r without a cell", "Spearman", "p"]
    return markdown_table([head, *([label, *_cells_of(each)] for label, each in named)])


def _cells_of(found: Correlation) -> list[str]:
    counts = [str(found.n_runs), str(found.n_units)]
    r, rho = found.pearson, found.spearman
    if found.reason is not None:
        return [*counts, "", f"{_number(r.value)} (no interval)", "", "", _number(rho.value), ""]
    return [
        *counts,
        f"{100 * found.level:.3g} %",
        str(r),
        _p(r),
        f"{r.least:.2f} to {r.most:.2f}",
        str(rho),
        _p(rho),
    ]


def _with_settings(rows: Sequence[Row]) -> str:
    columns = [*MEASURES, OUTCOME]
    body = [
        [title_of(factor), *[_short(correlation(rows, factor, column)) for column in columns]]
        for factor in varied(rows)
    ]
    return markdown_table([["r of", *[title_of(column) for column in columns]], *body])


def _other_numbers(rows: Sequence[Row]) -> str:
    body = []
    pairs = [(measure, "gap") for measure in MEASURES] + [(other, OUTCOME) for other in OTHERS]
    for measure, outcome in pairs:
        found = (
            correlation(rows, measure, outcome),
            correlation(rows, measure, outcome, within=True),
        )
        body.append([title_of(measure), title_of(outcome), *map(_short, found)])
    head = ["dimension", "with", "r over all", f"r where only the {SEED} differs"]
    return markdown_table([head, *body])


def _where_the_peak_is(rows: Sequence[Row]) -> str:
    known = [row for row in rows if row["peak_depth_test"] is not None]
    at_input = sum(row["peak_depth_test"] == 0 for row in known)
    if not known:
        return ""
    return (
        f"The peak on test images is the input itself in {at_input} of {len(known)} runs: there it"
        " is the same number for all networks, and peak / last carries no more than the last layer."
    )


def _cells(rows: Sequence[Row]) -> str:
    factors = varied(rows, (*FACTORS, "optimizer"))
    cells: dict[str, list[Row]] = {}
    for row in rows:
        cells.setdefault(row["cell"], []).append(row)
    body = [
        [
            *[_setting(cell[0][factor]) for factor in factors],
            *[_spread((row[m] for row in cell), 1, ".2f") for m in MEASURES],
            *[
                _spread((row[m] for row in cell), 100, ".1f")
                for m in ("train_accuracy", OUTCOME, "gap")
            ],
        ]
        for cell in cells.values()
    ]
    head = ["dimension (train)", "dimension (test)", "train acc. %", "test error %", "gap, points"]
    return markdown_table([[*map(title_of, factors), *head], *body])


def _how_made(rows: Sequence[Row]) -> list[str]:
    done = [row for row in rows if row["reason"] is None]
    failed = [row for row in rows if row["reason"] is not None]
    shared = {
        f.name: rows[0][f.name]
        for f in fields(Settings)
        if f.name not in ("seed", "data") and len({row[f.name] for row in rows}) == 1
    }
    errors = [row["id_test_se"] for row in done if row["id_test_se"] is not None]
    values = [row["id_test"] for row in done if row["id_test"] is not None]
    if not done:
        return [f"Failed: {row['run']}: {row['reason']}" for row in failed]
    facts = [
        f"{len(done)} of {len(rows)} trainings, seeds"
        f" {_distinct(row['seed'] for row in rows)}, on {_distinct(row['data'] for row in rows)};"
        f" the same for all: {', '.join(f'{name} {value}' for name, value in shared.items())}.",
        f"Trained on {_distinct(row['date'] for row in done)} with"
        f" {'; '.join(sorted({row['versions'] for row in done}))}.",
        f"{math.fsum(row['cpu_seconds'] for row in done) / 60:.0f} minutes of one core in all.",
        f"{RESAMPLES} bootstrap samples and as many permutations, by private generators of seed"
        f" {RESAMPLING_SEED}.",
    ]
    if errors and len(values) > 1:  # three images give a dimension without an error
        facts.append(
            f"The standard error of one dimension (test images) is {statistics.fmean(errors):.2f}"
            f" on average, the deviation between the runs {statistics.stdev(values):.2f}. The test"
            " images measured are the same in all runs, so most of that error is shared."
        )
    unmeasured = [row["run"] for row in done if None in (row["id_train"], row["id_test"])]
    if unmeasured:
        facts.append(
            f"No dimension of the last hidden layer in {len(unmeasured)} trainings, which the"
            f" correlations leave out; their history.csv says why: {', '.join(unmeasured)}."
        )
    facts += [f"Failed: {row['run']}: {row['reason']}" for row in failed]
    return facts


def _short(found: Correlation) -> str:
    return str(found.pearson) if found.reason is None else _number(found.pearson.value)


def _p(found: Coefficient) -> str:
    return f"{found.p:.2g}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _setting(value: int | float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _spread(values: Iterable[float | None], scale: int, form: str) -> str:
    known = [scale * value for value in values if value is not None]
    if not known:
        return "-"
    mean = format(statistics.fmean(known), form)
    return f"{mean} ± {format(statistics.stdev(known), form)}" if len(known) > 1 else mean


def _distinct(values: Iterable[str | int]) -> str:
    return ", ".join(map(str, sorted(set(values))))
