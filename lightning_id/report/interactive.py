"""The depth profile of a report: one line per run, and a slider over the measurements."""

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]

from lightning_id.console import LOWER_BOUND_ABOVE, estimator_name, value_with_error
from lightning_id.figures.common import FEW_COLORS
from lightning_id.history import BEFORE_TRAINING, Record, Validation, in_order, main_estimator
from lightning_id.report.runs import Run, describe, profiles, untrained

_COLORS = FEW_COLORS[:-1]  # without black, which a dark page hides
_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")
_STAGES = ("fit", "validate", "test")  # the order in which a program has them
_TRANSPARENT = "rgba(0,0,0,0)"
_MOST_TICKS = 50
_WRAP = 48  # characters of a line in a label


@dataclass(frozen=True)
class _Line:
    """What a run shows.

    Attributes:
        run: The run.
        layers: A record of each layer that has a place: its width and depth never change.
        profiles: The records of every measurement.
    """

    run: Run
    layers: list[Record]
    profiles: dict[Validation, list[Record]]


def interactive_profile(runs: Sequence[Run], element_id: str = "profile") -> str:
    """Return the chart as HTML with the plotting library inside, about 5 MB.

    The dimension against relative depth with its 95 % interval, at the measurement that the slider
    is set to; the network before training is dashed. At a measurement that a run does not have, its
    last one before is shown. Hovering tells layer, width, value and standard error.

    Args:
        runs: The runs to lay over each other, at least one, and each with a dimension.
        element_id: The id of the element that holds the chart.

    Returns:
        A fragment of HTML.
    """
    estimator = main_estimator(runs[0].history)
    lines = [_line(run, estimator) for run in runs]
    stops = positions(runs)
    figure = go.Figure()
    for line, color, symbol in zip(lines, cycle(_COLORS), cycle(_SYMBOLS), strict=False):
        _draw(figure, line, stops, color, symbol)
    highest = _highest(lines)
    figure.update_layout(**_layout(estimator_name(estimator), highest))
    if estimator == "twonn" and highest > LOWER_BOUND_ABOVE:
        _shade_lower_bound(figure)
    if len(stops) > 1:
        figure.update_layout(sliders=[_slider(lines, stops)])
    page: str = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id=element_id,
        default_height="32rem",
        config={"displayModeBar": False, "responsive": True},
    )
    return page


def _line(run: Run, estimator: str) -> _Line:
    measured = profiles(run.history, estimator)
    layers = {record["layer"]: record for records in measured.values() for record in records}
    return _Line(run, in_order(layers.values()), measured)


def positions(runs: Sequence[Run]) -> list[Validation]:
    """Return where the slider stops: the measurements of all runs, merged by stage and step.

    Args:
        runs: The runs.

    Returns:
        Stage, epoch and step; there is no slider where there is but one.
    """
    found = [v for run in runs for v in run.history.validations() if v[0] != BEFORE_TRAINING]
    if len(runs) == 1:  # as it went, whatever the order of fits and tests
        return found
    return sorted(set(found), key=_rank)


def _rank(validation: Validation) -> tuple[int, int, int]:
    stage, epoch, step = validation
    return (_STAGES.index(stage) if stage in _STAGES else len(_STAGES), epoch, step)


def _draw(
    figure: go.Figure, line: _Line, positions: Sequence[Validation], color: str, symbol: str
) -> None:
    """Add two lines: before training, and where the slider begins, at the end."""
    always = {
        "x": [layer["depth"] for layer in line.layers],
        "text": [_label(layer["layer"]) for layer in line.layers],
        "mode": "lines+markers",
        "hovertemplate": "<b>%{text}</b><br>width %{customdata[0]}, relative depth %{x:.2f}<br>"
        "%{customdata[1]}<br>%{customdata[2]}<extra></extra>",
    }
    before = untrained(line.run.history)
    figure.add_scatter(
        **always,
        **_state(line, [] if before is None else [before]),
        name=_label(f"{line.run.name}, before training"),
        line={"color": color, "dash": "dash", "width": 1.5},
        marker={"color": color, "symbol": symbol, "size": 5},
        opacity=0.7,
        showlegend=before is not None,
    )
    figure.add_scatter(
        **always,
        **_state(line, positions),
        name=_label(line.run.name),
        line={"color": color, "width": 2.5},
        marker={"color": color, "symbol": symbol, "size": 8},
        showlegend=True,
    )


def _state(line: _Line, upto: Sequence[Validation]) -> dict[str, list[Any]]:
    """Return what changes when the slider moves: the run at the last of these that it has."""
    validation = next((v for v in reversed(upto) if v in line.profiles), None)
    known = {} if validation is None else {r["layer"]: r for r in line.profiles[validation]}
    shown = [known.get(layer["layer"]) for layer in line.layers]
    when = "" if validation is None else _label(f"{describe(validation)}, {line.run.name}")
    return {
        "y": [None if r is None else r["value"] for r in shown],
        "error_y.array": [_reach(r, "high") for r in shown],
        "error_y.arrayminus": [_reach(r, "low") for r in shown],
        "customdata": [
            ["", "", ""] if r is None else [str(r["ambient_dimension"]), value_with_error(r), when]
            for r in shown
        ],
    }


def _reach(record: Record | None, end: str) -> float:
    """Return how far the 95 % interval reaches from the value; 0 where there is none."""
    if record is None or record[end] is None or math.isnan(record[end]):
        return 0.0
    return abs(float(record[end]) - float(record["value"]))


def _highest(lines: Sequence[_Line]) -> float:
    """Return the highest end of an interval, so that the axis stays while the slider moves."""
    ends = [
        float(record["value"]) + _reach(record, "high")
        for line in lines
        for records in line.profiles.values()
        for record in records
    ]
    return max(ends)


def _slider(lines: Sequence[_Line], positions: Sequence[Validation]) -> dict[str, Any]:
    moved = [2 * i + 1 for i in range(len(lines))]  # the dashed ones between them stay
    steps = []
    for i, position in enumerate(positions):
        states = [_state(line, positions[: i + 1]) for line in lines]
        changes = {key: [state[key] for state in states] for key in states[0]}
        steps.append({"method": "restyle", "args": [changes, moved], "label": describe(position)})
    return {
        "active": len(steps) - 1,
        "steps": steps,
        "currentvalue": {"prefix": "", "xanchor": "left", "font": {"color": "#444", "size": 14}},
        "font": {"color": _TRANSPARENT},  # the names of the stops would lie over each other
        "ticklen": 0 if len(steps) > _MOST_TICKS else 4,
        "minorticklen": 0,
        "pad": {"t": 50},
    }


def _layout(dimension: str, highest: float) -> dict[str, Any]:
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False, "fixedrange": True}
    return {
        "template": "none",
        "paper_bgcolor": _TRANSPARENT,
        "plot_bgcolor": _TRANSPARENT,
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 50, "r": 10, "t": 10, "b": 10},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "xaxis": grid
        | {"title": {"text": "relative depth", "standoff": 6}, "range": [-0.03, 1.03]},
        "yaxis": grid | {"title": {"text": dimension}, "range": [0, 1.05 * highest or 1.0]},
    }


def _shade_lower_bound(figure: go.Figure) -> None:
    figure.add_hrect(
        y0=LOWER_BOUND_ABOVE,
        y1=figure.layout.yaxis.range[1],
        fillcolor="rgba(128,128,128,0.12)",
        line_width=0,
        layer="below",
        annotation={"text": f"above {LOWER_BOUND_ABOVE}: lower bounds", "font": {"size": 11}},
        annotation_position="top right",
    )


def _label(name: str) -> str:
    """Return a name in lines that fit, as the library's labels, which read some HTML, show it."""
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(name, _WRAP))
