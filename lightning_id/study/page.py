"""The page of a study, as Markdown: the verdict first, then the numbers in tables."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_id.history.tables import markdown_table, markdown_text
from lightning_id.study.analysis import (
    SEED,
    Analysis,
    Relation,
    correlation,
    title_of,
    value_text,
)
from lightning_id.study.statistics import LEVEL, RESAMPLES, RESAMPLING_SEED, Correlation
from lightning_id.study.table import SEED_NAME, Row
from lightning_id.study.verdict import DIRECTIONS, RULES, SIGNIFICANT, verdict

_QUESTION = "Does the dimension of the last hidden layer predict generalisation?"
_OF_A_RULE = {"kind": "one setting", "direction": "higher with higher (or lower) error"}


def study_page(
    analysis: Analysis, picture: str, table: str, command: str = "", title: str = ""
) -> str:
    """Return the page."""
    relations, outcome = analysis.relations, analysis.outcome
    parts = [
        "# " + ": ".join(filter(None, [title, _QUESTION])),
        f"Written by `{command}`; nothing here is typed by hand." if command else "",
        *[f"**{text.replace(':', ':**', 1)}" for text in verdicts(analysis)],
        f"![Dimension against error]({picture})",
        "*Each point is one training; a logarithmic axis where the errors range widely. All numbers"
        f" of all trainings: [{table}]({table}).*",
        f"## With the {title_of(analysis.error)}",
        (f"The error is `{outcome}`. " if outcome not in ("", analysis.error) else "")
        + "Pearson's r and Spearman's rank correlation with bootstrap intervals, the p-value of a"
        " permutation test, and the range of r when each cell in turn is left out. A cell is a"
        " choice of settings; its runs differ in the seed, and are resampled, exchanged and left"
        f" out together. Over all runs the intervals are at {100 * LEVEL:g} %; within the groups"
        " they are wider, so that all of them hold together with as much.",
        *[f"{_upper(title_of(name))}:\n\n{_correlations(r)}" for name, r in relations.items()],
        *_without(relations),
        *_with_settings(analysis),
        *_other_numbers(analysis),
        "## Cells",
        "Mean ± standard deviation over the seeds of a cell.",
        _cells(analysis),
        "## How the verdict follows",
        SIGNIFICANT + " The first rule that holds decides:",
        "\n".join(
            f"- **{kind}** ({rule}). {answer.format_map(_OF_A_RULE)}"
            for kind, (rule, answer) in RULES.items()
        ),
        "## How it was made",
        "\n".join(f"- {fact}" for fact in _how_made(analysis)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdicts(analysis: Analysis) -> list[str]:
    """Return the verdict on each dimension in a sentence."""
    relations = analysis.relations.items()
    return [f"{_upper(title_of(name))}: {verdict(relation).text}" for name, relation in relations]


def _correlations(relation: Relation) -> str:
    head = ["held equal", "runs", "cells", "level", "r", "p", "significant", "r without a cell"]
    body = [["nothing", *_cells_of(relation.over_all)]]
    for kind, label, found, _ in relation.groups:
        body.append(["all but the seed" if kind == SEED else label, *_cells_of(found)])
    return markdown_table([[*head, "Spearman", "p"], *body])


def _cells_of(found: Correlation) -> list[str]:
    counts = [str(found.n_runs), str(found.n_units)]
    r, rho = found.pearson, found.spearman
    if found.reason is not None:
        return [*counts, "", f"{r} (no interval)", "", "inconclusive", "", str(rho), ""]
    level = f"{100 * found.level:.3g} %"
    without = f"{r.least:.2f} to {r.most:.2f}"
    significant = f"yes: {DIRECTIONS[found.sign]}" if found.sign else "no"
    return [*counts, level, str(r), f"{r.p:.2g}", significant, without, str(rho), f"{rho.p:.2g}"]


def _without(relations: Mapping[str, Relation]) -> list[str]:
    """Return the correlations over all runs without one group."""
    left_out = [
        {g.label: str(g.without.pearson) for g in relation.groups if g.without is not None}
        for relation in relations.values()
    ]
    if not relations or not left_out[0]:
        return []
    head = ["left out", *[f"r of {title_of(name)}" for name in relations]]
    whole = ["nothing", *[str(relation.over_all.pearson) for relation in relations.values()]]
    body = [[label, *[found.get(label, "-") for found in left_out]] for label in left_out[0]]
    return ["Over all runs without one group:", markdown_table([head, whole, *body])]


def _with_settings(analysis: Analysis) -> list[str]:
    rows, columns = analysis.rows, [*analysis.relations, analysis.error]
    body = [
        [title_of(name), *[str(correlation(rows, name, column).pearson) for column in columns]]
        for name in analysis.settings
        if name != SEED_NAME
        and all(isinstance(row[name], (int, float, type(None))) for row in rows)
    ]
    if not body:
        return []
    return [
        "## With the settings",
        "Pearson's r over all runs that have the setting. A setting that moves both the dimension"
        " and the error correlates them, whether or not one depends on the other.",
        markdown_table([["r of", *map(title_of, columns)], *body]),
    ]


def _other_numbers(analysis: Analysis) -> list[str]:
    rows = analysis.rows
    has_gap = "gap" in rows[0]
    pairs = [(name, "gap") for name in analysis.relations if has_gap]
    pairs += [(other, analysis.error) for other in analysis.others]
    if not pairs:
        return []
    body = [["dimension", "with", "r over all", "r where only the seed differs"]]
    for x, y in pairs:
        found = [str(correlation(rows, x, y, within=within).pearson) for within in (False, True)]
        body.append([title_of(x), title_of(y), *found])
    texts = ["The gap is the error less the training error."] * has_gap
    return ["## Other numbers", *texts, markdown_table(body)]


def _cells(analysis: Analysis) -> str:
    """Return the mean and the deviation of each cell."""
    rows, settings = analysis.rows, [name for name in analysis.settings if name != SEED_NAME]
    columns = {name: (1, ".2f", title_of(name)) for name in analysis.relations}
    for name in (analysis.error, "train_error", "gap"):
        if name in rows[0]:
            is_share = analysis.is_share(name)
            form = (100, ".1f", " %") if is_share else (1, ".4g", "")
            columns[name] = (*form[:2], title_of(name) + form[2])
    cells: dict[Any, list[Row]] = {}
    for row in rows:
        cells.setdefault(row["cell"], []).append(row)
    body = [[*map(title_of, settings), *[title for _, _, title in columns.values()]]]
    for cell in cells.values():
        means = [
            _spread([scale * row[name] for row in cell if row[name] is not None], form)
            for name, (scale, form, _) in columns.items()
        ]
        body.append([*[markdown_text(value_text(cell[0][name])) for name in settings], *means])
    return markdown_table(body)


def _how_made(analysis: Analysis) -> Iterable[str]:
    rows = analysis.rows
    done = [row for row in rows if not row.get("reason")]
    seeds = f", seeds {_distinct(rows, SEED_NAME)}" if SEED_NAME in rows[0] else ""
    yield f"{len(done)} of {len(rows)} trainings{seeds}."
    if any(row.get("date") for row in done):
        versions = "; ".join(sorted({row["versions"] for row in done}))
        yield f"Trained on {_distinct(done, 'date')} with {versions}."
    if any(row.get("cpu_seconds") for row in done):
        minutes = math.fsum(row["cpu_seconds"] or 0 for row in done) / 60
        yield f"{minutes:.0f} minutes of one core in all."
    yield (
        f"{RESAMPLES} bootstrap samples and as many permutations, by private generators of seed"
        f" {RESAMPLING_SEED}."
    )
    for name in analysis.relations:
        errors = [row[f"{name}_se"] for row in done if row.get(f"{name}_se") is not None]
        values = [row[name] for row in done if row[name] is not None]
        if errors and len(values) > 1:  # three samples give a dimension without an error
            yield (
                f"The standard error of one {title_of(name)} is {statistics.fmean(errors):.2f} on"
                f" average, the deviation between the runs {statistics.stdev(values):.2f}. Where"
                " the runs measure the same samples, most of that error is shared."
            )
    for name in [name for name in rows[0] if name.startswith("n_samples")]:
        counts = {row[name] for row in rows if row[name] is not None}
        if len(counts) > 1:
            yield (
                f"**The runs were measured with different numbers of samples** ({title_of(name)}"
                f" {', '.join(f'{n:g}' for n in sorted(counts))}): the dimensions depend on it."
            )
    for name in analysis.relations:
        without = [str(row["run"]) for row in done if row[name] is None and "run" in row]
        if without:
            yield (
                f"No {title_of(name)} in {len(without)} trainings, which the correlations leave"
                f" out; their history.csv has the reason: {', '.join(without)}."
            )
    for row in rows:
        if row.get("reason"):
            yield f"Failed: {row['run']}: {row['reason']}"


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return "-"
    mean = format(statistics.fmean(values), form)
    return f"{mean} ± {format(statistics.stdev(values), form)}" if len(values) > 1 else mean


def _distinct(rows: Sequence[Row], column: str) -> str:
    return ", ".join(map(str, sorted({row[column] for row in rows if row[column] is not None})))


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
