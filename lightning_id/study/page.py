"""The page of a study, as Markdown: the verdict first, then the numbers in tables."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from lightning_id.history.tables import markdown_table, markdown_text
from lightning_id.study.analysis import (
    SEED,
    Analysis,
    Relation,
    correlation,
    is_number,
    title_of,
    value_text,
)
from lightning_id.study.statistics import LEVEL, RESAMPLES, RESAMPLING_SEED, Correlation
from lightning_id.study.table import SEED_NAME, Row
from lightning_id.study.verdict import ANSWERS, DIRECTIONS, RULES, SIGNIFICANT, verdict

_OF_A_RULE = {"kind": "one setting", "direction": "higher with higher (or lower) error"}


def study_page(analysis: Analysis, picture: str, table: str, command: str = "") -> str:
    """Return the page."""
    relations, outcome = analysis.relations, analysis.outcome
    parts = [
        "# Does the dimension of the last hidden layer predict generalisation?",
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
        *_without(relations.values()),
        *_with_settings(analysis),
        *_other_numbers(analysis),
        "## Cells",
        "Mean ± standard deviation over the seeds of a cell.",
        _cells(analysis),
        "## How the verdict follows",
        SIGNIFICANT + " The first rule that holds decides:",
        "\n".join(
            f"- **{kind}** ({RULES[kind]}). {ANSWERS[kind].format_map(_OF_A_RULE)}"
            for kind in RULES
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
    body += [[_held(g.kind, g.label), *_cells_of(g.correlation)] for g in relation.groups]
    return markdown_table([[*head, "Spearman", "p"], *body])


def _held(kind: str, label: str) -> str:
    return "all but the seed" if kind == SEED else label


def _cells_of(found: Correlation) -> list[str]:
    counts = [str(found.n_runs), str(found.n_units)]
    r, rho = found.pearson, found.spearman
    if found.reason is not None:
        none = f"{_number(r.value)} (no interval)"
        return [*counts, "", none, "", "inconclusive", "", _number(rho.value), ""]
    level = f"{100 * found.level:.3g} %"
    without = f"{r.least:.2f} to {r.most:.2f}"
    significant = f"yes: {DIRECTIONS[found.sign]}" if found.sign else "no"
    return [*counts, level, str(r), f"{r.p:.2g}", significant, without, str(rho), f"{rho.p:.2g}"]


def _without(relations: Iterable[Relation]) -> list[str]:
    """Return the correlations over all runs without one group."""
    relations = list(relations)
    if not relations:
        return []
    labels = [g.label for g in relations[0].groups if g.without is not None]
    if not labels:
        return []
    found = [{g.label: g.without for g in r.groups if g.without is not None} for r in relations]
    body = [
        [label, *[_short(each[label]) if label in each else "-" for each in found]]
        for label in labels
    ]
    head = ["left out", *[f"r of {title_of(r.predictor)}" for r in relations]]
    whole = ["nothing", *[_short(relation.over_all) for relation in relations]]
    return ["Over all runs without one group:", markdown_table([head, whole, *body])]


def _with_settings(analysis: Analysis) -> list[str]:
    rows, columns = analysis.rows, [*analysis.relations, analysis.error]
    body = [
        [title_of(name), *[_short(correlation(rows, name, column)) for column in columns]]
        for name in analysis.settings
        if name != SEED_NAME and is_number(rows, name)
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
    pairs = [(name, "gap") for name in analysis.relations if "gap" in rows[0]]
    pairs += [(other, analysis.error) for other in analysis.others]
    if not pairs:
        return []
    head = ["dimension", "with", "r over all", "r where only the seed differs"]
    body = []
    for x, y in pairs:
        found = correlation(rows, x, y), correlation(rows, x, y, within=True)
        body.append([title_of(x), title_of(y), *map(_short, found)])
    texts = ["The gap is the error less the training error."] * ("gap" in rows[0])
    return ["## Other numbers", *texts, markdown_table([head, *body])]


def _cells(analysis: Analysis) -> str:
    rows, error = analysis.rows, analysis.error
    settings = [name for name in analysis.settings if name != SEED_NAME]
    errors = [name for name in (error, "train_error", "gap") if name in rows[0]]
    forms = [(100, ".1f") if analysis.is_share(name) else (1, ".4g") for name in errors]
    cells: dict[Any, list[Row]] = {}
    for row in rows:
        cells.setdefault(row["cell"], []).append(row)
    body = [
        [
            *[markdown_text(value_text(cell[0][name])) for name in settings],
            *[_spread((row[name] for row in cell), 1, ".2f") for name in analysis.relations],
            *[
                _spread((row[name] for row in cell), *form)
                for name, form in zip(errors, forms, strict=True)
            ],
        ]
        for cell in cells.values()
    ]
    shares = [f"{title_of(e)}{' %' if analysis.is_share(e) else ''}" for e in errors]
    return markdown_table([[*map(title_of, [*settings, *analysis.relations]), *shares], *body])


def _how_made(analysis: Analysis) -> list[str]:
    rows = analysis.rows
    failed = [f"Failed: {row['run']}: {row['reason']}" for row in rows if row.get("reason")]
    done = [row for row in rows if not row.get("reason")]
    seeds = f", seeds {_distinct(rows, SEED_NAME)}" if SEED_NAME in rows[0] else ""
    facts = [f"{len(done)} of {len(rows)} trainings{seeds}."]
    if any(row.get("date") for row in done):
        facts.append(
            f"Trained on {_distinct(done, 'date')} with"
            f" {'; '.join(sorted({row['versions'] for row in done}))}."
        )
    if any(row.get("cpu_seconds") for row in done):
        minutes = math.fsum(row["cpu_seconds"] or 0 for row in done) / 60
        facts.append(f"{minutes:.0f} minutes of one core in all.")
    facts.append(
        f"{RESAMPLES} bootstrap samples and as many permutations, by private generators of seed"
        f" {RESAMPLING_SEED}."
    )
    facts += [fact for name in analysis.relations if (fact := _error_of(done, name))]
    facts += [
        fact for name in rows[0] if name.startswith("n_samples") and (fact := _counts(rows, name))
    ]
    for name in analysis.relations:
        without = [str(row["run"]) for row in done if row[name] is None and "run" in row]
        if without:
            facts.append(
                f"No {title_of(name)} in {len(without)} trainings, which the correlations leave"
                f" out; their history.csv has the reason: {', '.join(without)}."
            )
    return facts + failed


def _error_of(rows: Sequence[Row], name: str) -> str | None:
    errors = [row[f"{name}_se"] for row in rows if row.get(f"{name}_se") is not None]
    values = [row[name] for row in rows if row[name] is not None]
    if not errors or len(values) < 2:  # three samples give a dimension without an error
        return None
    return (
        f"The standard error of one {title_of(name)} is {statistics.fmean(errors):.2f} on average,"
        f" the deviation between the runs {statistics.stdev(values):.2f}. Where the runs measure"
        " the same samples, most of that error is shared."
    )


def _counts(rows: Sequence[Row], name: str) -> str | None:
    counts = sorted({row[name] for row in rows if row[name] is not None})
    if len(counts) < 2:
        return None
    return (
        f"**The runs were measured with different numbers of samples** ({title_of(name)}"
        f" {', '.join(f'{n:g}' for n in counts)}): the dimensions depend on it."
    )


def _short(found: Correlation) -> str:
    return str(found.pearson) if found.reason is None else _number(found.pearson.value)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _spread(values: Iterable[float | None], scale: int, form: str) -> str:
    known = [scale * value for value in values if value is not None]
    if not known:
        return "-"
    mean = format(statistics.fmean(known), form)
    return f"{mean} ± {format(statistics.stdev(known), form)}" if len(known) > 1 else mean


def _distinct(rows: Sequence[Row], column: str) -> str:
    return ", ".join(map(str, sorted({row[column] for row in rows if row[column] is not None})))


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
