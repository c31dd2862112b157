"""A report as one HTML page that needs no network, or as Markdown."""

import base64
import io
from collections.abc import Iterator, Mapping
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
from lightning_id.report.interactive import (
    BY_DEPTH,
    BY_ORDER,
    interactive_metric,
    interactive_profile,
    slider_positions,
)
from lightning_id.report.tables import cost_table, how_made, layer_table

METRIC = "val_acc"  # shown next to the dimension, if it was logged
_CAPTIONS = {  # by the kind of figure: its title and a sentence
    "depth_profile": (
        "Dimension over depth",
        "One line for each measurement; a hunchback increases and then decreases with depth.",
    ),
    "layers_over_time": (
        "Layers over training",
        "One line for each layer, coloured by depth, above a logged metric.",
    ),
    "heat_map": (
        "Dimension over training",
        "One row for each layer, one column for each measurement.",
    ),
    "linear_and_nonlinear": (
        "Linear and nonlinear dimension",
        "Where PCA is far above TwoNN, the representation is curved.",
    ),
    "last_hidden_and_metric": (
        "Last hidden layer",
        "Its dimension over training, and a logged metric.",
    ),
    "spectra": (
        "Spectra",
        "Eigenvalues of the covariance of each layer, trained and untrained.",
    ),
    "per_class": ("Single classes", "The dimension of the samples of one class each."),
}


def html_page(runs: Mapping[str, History]) -> str:
    """Return the report as HTML without any request, about 5 MB, nearly all of it plotly."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    measured = {name: each for name, each in runs.items() if profiles(each, main_estimator(each))}
    metric = next((metric_shown(each) for each in measured.values() if each.metrics), METRIC)
    over_time = interactive_metric(measured, metric)
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
        metric=Markup(over_time) if over_time else None,
        spacings=(BY_DEPTH, BY_ORDER),
        has_slider=len(slider_positions(measured.values())) > 1,
        comparisons=list(_comparisons(measured)) if len(measured) > 1 else [],
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


def metric_shown(history: History) -> str:
    """Return the key of the metric to show next to the dimension: `METRIC`, or the first logged."""
    metrics = metric_names(history)
    return METRIC if METRIC in metrics else next(iter(metrics), METRIC)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _comparisons(runs: Mapping[str, History]) -> Iterator[dict[str, str]]:
    """Yield title and image of the figures of all runs or sample sets together."""
    yield {"title": "Last profiles", "source": _data_uri(comparison(runs))}
    over_time = [name for name, each in runs.items() if len(each.validations()) > 1]
    if over_time and any(last_hidden(runs[name].records) is not None for name in over_time):
        figure = figures.compare_last_hidden({name: runs[name] for name in over_time})
        yield {"title": "Last hidden layer over training", "source": _data_uri(figure)}


def _pictures(history: History) -> Iterator[dict[str, str]]:
    """Yield title, caption and image of each figure for which the history has data."""
    of_estimator = {"estimator": main_estimator(history)}
    of_metric = {"metric": metric_shown(history)}
    has_profile = bool(profiles(history, **of_estimator))
    has_course = has_profile and len(history.validations()) > 1
    has_hidden = last_hidden(history.records) is not None
    has_classes = any(record["label"] is not None for record in history.records)
    for has_data, kind, options in (
        (has_profile, "depth_profile", of_estimator),
        (has_course, "layers_over_time", of_estimator | of_metric),
        (has_course, "heat_map", of_estimator | of_metric),
        (has_profile and {"twonn", "pca"} <= set(estimators(history)), "linear_and_nonlinear", {}),
        (has_course and has_hidden, "last_hidden_and_metric", of_metric),
        (bool(history.spectra), "spectra", {}),
        (has_classes, "per_class", of_estimator),
    ):
        if has_data:
            title, caption = _CAPTIONS[kind]
            source = _data_uri(figures.plot(history, kind, **options))
            yield {"title": title, "caption": caption, "source": source}


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
