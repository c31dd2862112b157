"""A report as one HTML page that needs no network, or as Markdown."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from lightning_id import figures
from lightning_id.functional import estimator_spec
from lightning_id.history import History
from lightning_id.history.queries import (
    describe,
    describe_samples,
    estimators,
    last_hidden,
    last_of_fit,
    main_estimator,
    metric_names,
    profiles,
)
from lightning_id.history.tables import markdown_table, markdown_text
from lightning_id.report.findings import findings, not_comparable
from lightning_id.report.interactive import interactive_profile, slider_positions
from lightning_id.report.tables import cost_table, how_made, layer_table

METRIC = "val_acc"  # shown beside the dimension, if it was logged


def html_page(runs: Mapping[str, History]) -> str:
    """Return the report as HTML: findings, interactive profile, figures, table, how it was made.

    The page contains all that it needs; its own policy forbids the browser to fetch anything.

    Args:
        runs: Histories by the name of the run; their profiles are overlaid.

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
    measured = {name: each for name, each in runs.items() if profiles(each, main_estimator(each))}
    return environment.get_template("page.html.jinja").render(
        title=", ".join(runs),
        not_alike=not_comparable(runs),
        runs=[
            {
                "name": name,
                "subject": _subject(history),
                "findings": findings(history),
                "pictures": list(_pictures(history)),
                "layers": layer_table(history),
                "how_made": how_made(history),
                "costs": cost_table(history),
            }
            for name, history in runs.items()
        ],
        chart=Markup(interactive_profile(measured)) if measured else None,
        has_slider=len(slider_positions(measured.values())) > 1,
        comparison=_data_uri(comparison(measured)) if len(measured) > 1 else None,
    )


def markdown(runs: Mapping[str, History]) -> str:
    """Return findings, tables of layers and how the numbers were made as Markdown."""
    not_alike = not_comparable(runs)
    parts = [f"# Intrinsic dimension: {markdown_text(', '.join(runs))}"]
    parts += [] if not_alike is None else [_item(*not_alike)]
    for name, history in runs.items():
        parts += [f"## {markdown_text(name)}"] if len(runs) > 1 else []
        parts += [markdown_text(_subject(history))]
        parts += ["\n".join(_item(*finding) for finding in findings(history))]
        cells = [list(map(markdown_text, row)) for row in layer_table(history)]
        parts += [markdown_table(cells)]
        parts += ["\n".join(_item(*fact) for fact in how_made(history))]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison(runs: Mapping[str, History]) -> Figure:
    """Return the figure of the last profiles of all runs, of which there is at least one."""
    return figures.compare(runs, main_estimator(next(iter(runs.values()))))


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _pictures(history: History) -> Iterator[dict[str, str]]:
    """Yield title, caption and image of each figure for which the history has data."""
    estimator, metrics = main_estimator(history), metric_names(history)
    metric = METRIC if METRIC in metrics else next(iter(metrics), METRIC)
    has_profile = bool(profiles(history, estimator))
    has_course = has_profile and len(history.validations()) > 1
    candidates: list[tuple[bool, str, str, Callable[[], Figure]]] = [
        (
            has_profile,
            "Dimension over depth",
            "One line for each measurement; a hunchback increases and then decreases with depth.",
            lambda: figures.depth_profile(history, estimator),
        ),
        (
            has_course,
            "Dimension over training",
            "One row for each layer, one column for each measurement.",
            lambda: figures.heat_map(history, estimator, metric),
        ),
        (
            has_profile and {"twonn", "pca"} <= set(estimators(history)),
            "Linear and nonlinear dimension",
            "Where PCA is far above TwoNN, the representation is curved.",
            lambda: figures.linear_and_nonlinear(history),
        ),
        (
            has_course and last_hidden(history.records) is not None,
            "Last hidden layer",
            "Its dimension over training, beside a logged metric.",
            lambda: figures.last_hidden_and_metric(history, metric),
        ),
        (
            bool(history.spectra),
            "Spectra",
            "Eigenvalues of the covariance of each layer, trained and untrained.",
            lambda: figures.spectra(history),
        ),
        (
            any(record["label"] is not None for record in history.records),
            "Single classes",
            "The dimension of the samples of one class each.",
            lambda: figures.per_class(history, estimator),
        ),
    ]
    for has_data, title, caption, draw in candidates:
        if has_data:
            yield {"title": title, "caption": caption, "source": _data_uri(draw())}


def _subject(history: History) -> str:
    """Return the estimator, samples and time that the findings are about."""
    last, estimator = last_of_fit(history.validations()), main_estimator(history)
    if last is None:
        return ""
    samples = describe_samples(history.at(last, estimator)) or "unknown samples"
    return f"{estimator_spec(estimator).title} of {samples}; {describe(last)}."


def _data_uri(figure: Figure) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(figure)).decode()}"


def _item(term: str, text: str) -> str:
    return f"- **{markdown_text(term)}.** {markdown_text(text)}"
