"""The depth profile of a report: one line per run, and a slider over the measurements."""

import html
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import Any, Literal

import plotly.graph_objects as go  # type: ignore[import-untyped]

from lightning_id.figures._drawing import FEW_COLORS
from lightning_id.functional import EstimatorSpec, estimator_spec
from lightning_id.history import BEFORE_TRAINING, History, Placed, Validation, in_order
from lightning_id.history.queries import before_training, describe, main_estimator, profiles
from lightning_id.history.tables import value_with_error

_COLORS = FEW_COLORS[:-1]  # without black, which a dark page hides
_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")
_STAGES = ("fit", "validate", "test")  # the order in which a program has them
_TRANSPARENT = "rgba(0,0,0,0)"
_MOST_TICKS = 50
_WRAP = 48  # characters of a line in a label


@dataclass(frozen=True)
class _Line:
    """A run: its layers in order, whose depths never change, and its profiles."""

    name: str
    before: Validation | None
    layers: list[Placed]
    profiles: dict[Validation, list[Placed]]


def interactive_profile(runs: Mapping[str, History]) -> str:
    """Return the chart of one or more runs as HTML with the plotting library inside, about 5 MB.

    The dimension against relative depth with its 95 % interval, at the measurement of the slider; a
    run without that measurement is shown at its last one before. The network before training is
    dashed.
    """
    spec = estimator_spec(main_estimator(next(iter(runs.values()))))
    lines = [_line(name, history, spec.name) for name, history in runs.items()]
    stops = slider_positions(runs.values())
    figure = go.Figure()
    for line, color, symbol in zip(lines, cycle(_COLORS), cycle(_SYMBOLS), strict=False):
        _draw(figure, line, stops, color, symbol)
    highest = _highest(lines)
    figure.update_layout(**_layout(spec.title, highest))
    _shade_lower_bound(figure, spec, highest)
    if len(stops) > 1:
        figure.update_layout(sliders=[_slider(lines, stops)])
    page: str = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="profile",
        default_height="32rem",
        config={"displayModeBar": False, "responsive": True},
    )
    return page


def _line(name: str, history: History, estimator: str) -> _Line:
    measured = profiles(history, estimator)
    layers = {record["layer"]: record for records in measured.values() for record in records}
    return _Line(name, before_training(history), in_order(layers.values()), measured)


def slider_positions(histories: Iterable[History]) -> list[Validation]:
    """Return the stops of the slider: the measurements of all runs, merged by stage and step."""
    runs = [history.validations() for history in histories]
    found = [v for v in dict.fromkeys(chain(*runs)) if v.stage != BEFORE_TRAINING]
    return found if len(runs) == 1 else sorted(found, key=_rank)


def _rank(validation: Validation) -> tuple[int, int, int]:
    stage, epoch, step = validation
    return _STAGES.index(stage) if stage in _STAGES else len(_STAGES), epoch, step


def _draw(
    figure: go.Figure, line: _Line, positions: Sequence[Validation], color: str, symbol: str
) -> None:
    """Add two lines: before training, and at the last measurement, where the slider starts."""
    common = {
        "x": [layer["depth"] for layer in line.layers],
        "text": [_label(layer["layer"]) for layer in line.layers],
        "mode": "lines+markers",
        "hovertemplate": "<b>%{text}</b><br>width %{customdata[0]}, relative depth %{x:.2f}<br>"
        "%{customdata[1]}<br>%{customdata[2]}<extra></extra>",
    }
    figure.add_scatter(
        **common,
        **_state(line, [line.before] if line.before else []),
        name=_label(f"{line.name}, before training"),
        line={"color": color, "dash": "dash", "width": 1.5},
        marker={"color": color, "symbol": symbol, "size": 5},
        opacity=0.7,
        showlegend=line.before is not None,
    )
    figure.add_scatter(
        **common,
        **_state(line, positions),
        name=_label(line.name),
        line={"color": color, "width": 2.5},
        marker={"color": color, "symbol": symbol, "size": 8},
        showlegend=True,
    )


def _state(line: _Line, upto: Sequence[Validation]) -> dict[str, list[Any]]:
    """Return the data that the slider changes: the run at the last of these that it has."""
    validation = next((v for v in reversed(upto) if v in line.profiles), None)
    known = {r["layer"]: r for r in line.profiles[validation]} if validation else {}
    shown = [known.get(layer["layer"]) for layer in line.layers]
    when = _label(f"{describe(validation)}, {line.name}") if validation else ""
    return {
        "y": [None if r is None else r["value"] for r in shown],
        "error_y.array": [_reach(r, "high") for r in shown],
        "error_y.arrayminus": [_reach(r, "low") for r in shown],
        "customdata": [
            ["", "", ""] if r is None else [str(r["ambient_dimension"]), value_with_error(r), when]
            for r in shown
        ],
    }


def _reach(record: Placed | None, end: Literal["low", "high"]) -> float:
    """Return the distance of an end of the 95 % interval from the value; 0 without interval."""
    at = record[end] if record else None
    return 0.0 if record is None or at is None or math.isnan(at) else abs(at - record["value"])


def _highest(lines: Sequence[_Line]) -> float:
    """Return the highest end of an interval, so that the axis stays while the slider moves."""
    records = (r for line in lines for records in line.profiles.values() for r in records)
    return max(record["value"] + _reach(record, "high") for record in records)


def _slider(lines: Sequence[_Line], positions: Sequence[Validation]) -> dict[str, Any]:
    moved = list(range(1, 2 * len(lines), 2))  # the dashed lines between them stay
    steps = []
    for i, position in enumerate(positions):
        states = [_state(line, positions[: i + 1]) for line in lines]
        changes = {key: [state[key] for state in states] for key in states[0]}
        steps.append({"method": "restyle", "args": [changes, moved], "label": describe(position)})
    return {
        "active": len(steps) - 1,
        "steps": steps,
        "currentvalue": {"prefix": "", "xanchor": "left", "font": {"color": "#444", "size": 14}},
        "font": {"color": _TRANSPARENT},  # the names of the stops would overlap
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


def _shade_lower_bound(figure: go.Figure, spec: EstimatorSpec, highest: float) -> None:
    bound = spec.lower_bound_above
    if bound is None or highest <= bound:
        return
    figure.add_hrect(
        y0=bound,
        y1=figure.layout.yaxis.range[1],
        fillcolor="rgba(128,128,128,0.12)",
        line_width=0,
        layer="below",
        annotation={"text": f"above {bound}: lower bounds", "font": {"size": 11}},
        annotation_position="top right",
    )


def _label(name: str) -> str:
    """Return a name in lines that fit, escaped: labels are read as HTML."""
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(name, _WRAP))
