"""A report as one HTML page that needs no network, or as Markdown."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from lightning_id.figures import compare
from lightning_id.figures._data import records_of, samples_in_words
from lightning_id.history import History, main_estimator
from lightning_id.history.tables import estimator_name
from lightning_id.report.findings import findings, not_comparable
from lightning_id.report.interactive import interactive_profile, positions
from lightning_id.report.pictures import pictures_of, png
from lightning_id.report.runs import Run, describe, has_profile, trained
from lightning_id.report.tables import cost_table, how_made, layer_table


def html_page(runs: Sequence[Run]) -> str:
    """Return the report as HTML: findings, interactive profile, figures, table, how it was made.

    All that it needs is inside; its own policy forbids the browser to fetch anything.

    Args:
        runs: The runs, which are laid over each other.

    Returns:
        The page; about 5 MB, nearly all of it the plotting library.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    measured = [run for run in runs if has_profile(run.history)]
    return environment.get_template("page.html.jinja").render(
        title=_title(runs),
        not_alike=not_comparable(runs),
        runs=[_of_run(run) for run in runs],
        chart=Markup(interactive_profile(measured)) if measured else None,
        has_slider=len(positions(measured)) > 1,
        comparison=_data_uri(comparison(measured)) if len(measured) > 1 else None,
    )


def markdown(runs: Sequence[Run]) -> str:
    """Return findings, tables of layers and how the numbers were made as Markdown.

    Args:
        runs: The runs.

    Returns:
        The text.
    """
    not_alike = not_comparable(runs)
    parts = [f"# Intrinsic dimension: {_plain(_title(runs))}"]
    parts += [] if not_alike is None else [_item(*not_alike)]
    for run in runs:
        parts += [f"## {_plain(run.name)}"] if len(runs) > 1 else []
        parts += [_plain(_spoken_of(run.history))]
        parts += ["\n".join(_item(*finding) for finding in findings(run.history))]
        parts += [_table(layer_table(run.history))]
        parts += ["\n".join(_item(*fact) for fact in how_made(run.history))]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison(runs: Sequence[Run]) -> Figure:
    """Return the figure of the last profiles of all runs.

    Args:
        runs: The runs, at least one.

    Returns:
        The figure.
    """
    return compare({run.name: run.history for run in runs}, main_estimator(runs[0].history))


def _title(runs: Sequence[Run]) -> str:
    return ", ".join(run.name for run in runs)


def _of_run(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "spoken_of": _spoken_of(run.history),
        "findings": findings(run.history),
        "pictures": [
            {
                "title": picture.title,
                "caption": picture.caption,
                "source": _data_uri(picture.draw(run.history)),
            }
            for picture in pictures_of(run.history)
        ],
        "layers": layer_table(run.history),
        "how_made": how_made(run.history),
        "costs": cost_table(run.history),
    }


def _spoken_of(history: History) -> str:
    last, estimator = trained(history), main_estimator(history)
    if last is None:
        return ""
    samples = samples_in_words(records_of(history, estimator).get(last, [])) or "unknown samples"
    return f"{estimator_name(estimator)} of {samples}; {describe(last)}."


def _data_uri(figure: Figure) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(figure)).decode()}"


def _item(term: str, text: str) -> str:
    return f"- **{_plain(term)}.** {_plain(text)}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head, *body = [f"| {' | '.join(map(_plain, row))} |" for row in rows]
    return "\n".join([head, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text.replace("\n", " "))
