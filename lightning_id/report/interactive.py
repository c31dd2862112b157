"""The charts of a report: the profile of each run under a slider, and a metric over training."""

import html
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import Any, Literal

import plotly.graph_objects as go  # type: ignore[import-untyped]

from lightning_id.figures._data import Clock, metric_course, short_names, tick_positions
from lightning_id.figures._drawing import FEW_COLORS, MOST_NAMES
from lightning_id.figures.by_depth import far_enough_apart, joined
from lightning_id.functional import EstimatorSpec, estimator_spec
from lightning_id.history import BEFORE_TRAINING, FIT, History, Placed, Validation, in_order
from lightning_id.history.queries import (
    before_training,
    breaks_law,
    course,
    describe,
    main_estimator,
    metric_values,
    profiles,
)
from lightning_id.history.tables import value_with_error

BY_DEPTH, BY_ORDER = "relative depth", "even"  # spacings of the layers
_COLORS = FEW_COLORS[:-1]  # without black, which a dark page hides
_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")
_STAGES = (BEFORE_TRAINING, FIT, "validate", "test")  # the order in which a program has them
_TRANSPARENT = "rgba(0,0,0,0)"
_MOST_TICKS = 50
_WRAP = 48  # characters of a line in a label


@dataclass(frozen=True)
class _Line:
    """A run: its layers in order, whose depths never change, and its profiles."""

    name: str
    symbol: str
    before: Validation | None
    layers: list[Placed]
    profiles: dict[Validation, list[Placed]]


def interactive_profile(runs: Mapping[str, History]) -> str:
    """Return the chart of runs under a slider as HTML with the plotting library, about 5 MB."""
    spec = estimator_spec(main_estimator(next(iter(runs.values()))))
    lines = [
        _line(name, symbol, history, spec.name)
        for (name, history), symbol in zip(runs.items(), cycle(_SYMBOLS), strict=False)
    ]
    stops = slider_positions(runs.values())
    figure = go.Figure()
    for line, color in zip(lines, cycle(_COLORS), strict=False):
        _draw(figure, line, stops, color)
    spacings = _spacings(lines)
    # Of all measurements: the axis stays while the slider moves.
    records = (r for line in lines for layers in line.profiles.values() for r in layers)
    highest = max(record["value"] + _reach(record, "high") for record in records)
    figure.update_layout(**_layout(spec.title), xaxis=spacings[BY_DEPTH]["xaxis"], meta=spacings)
    figure.update_yaxes(range=[0, 1.05 * highest or 1.0])
    _shade_lower_bound(figure, spec, highest)
    if len(stops) > 1:
        figure.frames = _frames(lines, stops)
        letters = max(map(len, spacings[BY_DEPTH]["xaxis"].get("ticktext", [""])))
        figure.update_layout(sliders=[_slider(stops, below=40 + 5 * min(letters, 16))])
    return _html(figure, "profile", "30rem", include_plotlyjs=True)


def interactive_metric(runs: Mapping[str, History], metric: str) -> str | None:
    """Return the chart of a metric over training as HTML, or None if no run has a value of it."""
    values = {name: metric_values(history, metric) for name, history in runs.items()}
    if not any(values.values()):
        return None
    clock = Clock(any(Clock.of(history.validations()).by_step for history in runs.values()))
    stops, figure = slider_positions(runs.values()), go.Figure()
    latest = 1
    places = [_metric_places(runs[name], stops, values[name], clock) for name in runs]
    for name, color in zip(runs, cycle(_COLORS), strict=False):
        shown = course(runs[name].validations())
        curve = metric_course(runs[name], metric, clock, shown)
        figure.add_scatter(
            x=[time for time, _ in curve],
            y=[value for _, value in curve],
            mode="lines",
            line={"color": color},
            name=_label(name),
        )
        latest = max([latest, *(time for time, _ in curve)])
    for color, of_run in zip(cycle(_COLORS), places, strict=False):
        x, y, text = of_run[-1] if of_run else (None, None, "")
        figure.add_scatter(
            x=[x],
            y=[y],
            text=[text],
            mode="markers+text",
            textposition="bottom center",
            marker={"color": color, "size": 10},
            hoverinfo="skip",
            cliponaxis=False,
        )
    figure.update_layout(**_layout(_label(metric)), showlegend=False)
    figure.update_layout(meta=[list(stop) for stop in zip(*places, strict=True)])
    figure.update_xaxes(
        title={"text": clock.name}, range=[-0.03 * latest, 1.05 * latest], automargin=True, **_GRID
    )
    return _html(figure, "metric", "22rem", include_plotlyjs=False)


def _metric_places(
    history: History, stops: Sequence[Validation], values: Mapping[Validation, float], clock: Clock
) -> list[tuple[int | None, float | None, str]]:
    """Return time, value and text at each stop: of the last measurement up to it, if logged."""
    measured = set(history.validations())
    nowhere: tuple[int | None, float | None, str] = (None, None, "")
    places, at = [], nowhere
    for stop in stops:
        if stop in measured:
            value = values.get(stop)
            at = nowhere if value is None else (clock.time(stop), value, f"{value:.4g}")
        places.append(at)
    return places


def _html(figure: go.Figure, name: str, height: str, include_plotlyjs: bool) -> str:
    page: str = figure.to_html(
        full_html=False,
        include_plotlyjs=include_plotlyjs,
        div_id=name,
        default_height=height,
        auto_play=False,
        config={"displayModeBar": False, "responsive": True},
    )
    return page


def _line(name: str, symbol: str, history: History, estimator: str) -> _Line:
    measured = profiles(history, estimator)
    layers = {record["layer"]: record for records in measured.values() for record in records}
    return _Line(name, symbol, before_training(history), in_order(layers.values()), measured)


def slider_positions(histories: Iterable[History]) -> list[Validation]:
    """Return the stops of the slider: the measurements of all runs, merged by stage and step."""
    runs = [history.validations() for history in histories]
    found = list(dict.fromkeys(chain(*runs)))
    return found if len(runs) == 1 else sorted(found, key=_rank)


def _rank(validation: Validation) -> tuple[int, int, int]:
    stage, epoch, step = validation
    return _STAGES.index(stage) if stage in _STAGES else len(_STAGES), epoch, step


def _draw(figure: go.Figure, line: _Line, positions: Sequence[Validation], color: str) -> None:
    """Add two lines: before training, and at the last measurement, where the slider starts."""
    before, now = _state(line, [line.before] if line.before else []), _state(line, positions)
    common = {
        "x": _places(line, BY_DEPTH),
        "text": [_label(layer["layer"]) for layer in line.layers],
        "mode": "lines+markers",
        "hovertemplate": "<b>%{text}</b><br>width %{customdata[0]}, "
        "relative depth %{customdata[1]}<br>%{customdata[2]}<br>%{customdata[3]}%{customdata[4]}"
        "<extra></extra>",
    }
    figure.add_scatter(
        **common,
        **before | {"marker": before["marker"] | {"color": color, "size": 5}},
        name=_label(f"{line.name}, before training"),
        line={"color": color, "dash": "dash", "width": 1.5},
        opacity=0.7,
        showlegend=line.before is not None,
    )
    figure.add_scatter(
        **common,
        **now | {"marker": now["marker"] | {"color": color, "size": 8}},
        name=_label(line.name),
        line={"color": color, "width": 2.5},
        showlegend=True,
    )


def _state(line: _Line, upto: Sequence[Validation]) -> dict[str, Any]:
    """Return the data that the slider changes: the run at the last of these that it has."""
    validation = next((v for v in reversed(upto) if v in line.profiles), None)
    known = {r["layer"]: r for r in line.profiles[validation]} if validation else {}
    shown = [known.get(layer["layer"]) for layer in line.layers]
    when = _label(f"{describe(validation)}, {line.name}") if validation else ""
    return {
        "y": [None if r is None else r["value"] for r in shown],
        "error_y": {
            "array": [_reach(r, "high") for r in shown],
            "arrayminus": [_reach(r, "low") for r in shown],
        },
        "marker": {"symbol": [line.symbol + "-open" * _is_hollow(r) for r in shown]},
        "customdata": [
            [
                str(r["ambient_dimension"]),
                f"{r['depth']:.2f}",
                value_with_error(r),
                when,
                "<br>hollow: not the law of TwoNN" * _is_hollow(r),
            ]
            if r
            else [""] * 5
            for r in shown
        ],
    }


def _is_hollow(record: Placed | None) -> bool:
    return record is not None and breaks_law(record)


def _reach(record: Placed | None, end: Literal["low", "high"]) -> float:
    """Return the distance of an end of the 95 % interval from the value; 0 without interval."""
    at = record[end] if record else None
    return 0.0 if record is None or at is None or math.isnan(at) else abs(at - record["value"])


def _places(line: _Line, spacing: str) -> list[float]:
    if spacing == BY_DEPTH:
        return [layer["depth"] for layer in line.layers]
    most = max(len(line.layers) - 1, 1)
    return [i / most for i in range(len(line.layers))]


def _spacings(lines: Sequence[_Line]) -> dict[str, dict[str, Any]]:
    """Return places of all traces and the axis, with names of layers that all runs share."""
    found = {}
    names = [[record["layer"] for record in line.layers] for line in lines]
    for spacing in (BY_DEPTH, BY_ORDER):
        x = [_places(line, spacing) for line in lines for _ in range(2)]
        is_shared = all(each == names[0] for each in names) and all(each == x[0] for each in x)
        ticks = _ticks(names[0], x[0]) if is_shared else {}
        title = {} if ticks else {"title": {"text": spacing, "standoff": 6}}
        axis = _GRID | {"range": [-0.03, 1.03], "tickangle": -40 if ticks else 0} | ticks | title
        found[spacing] = {"x": x, "xaxis": axis}
    return found


def _ticks(layers: Sequence[str], places: Sequence[float]) -> dict[str, list[Any]]:
    """Return places and names; layers of one place share it, and names do not overlap."""
    names, at = short_names(layers), dict[float, list[str]]()
    for layer, place in zip(layers, places, strict=True):
        at.setdefault(place, []).append(names[layer].replace(r"\$", "$"))
    apart = far_enough_apart(sorted(at), 0.025)
    shown = [apart[i] for i in tick_positions(len(apart), MOST_NAMES)]
    return {"tickvals": shown, "ticktext": [_label(joined(at[place])) for place in shown]}


def _frames(lines: Sequence[_Line], positions: Sequence[Validation]) -> list[go.Frame]:
    """Return the states of the lines, named 0, 1, ...; the dashed lines between them stay."""
    moved = list(range(1, 2 * len(lines), 2))
    return [
        go.Frame(
            name=str(i),
            data=[go.Scatter(_state(line, positions[: i + 1])) for line in lines],
            traces=moved,
        )
        for i in range(len(positions))
    ]


def _slider(positions: Sequence[Validation], below: int) -> dict[str, Any]:
    at_once = {"mode": "immediate", "frame": {"duration": 0}, "transition": {"duration": 0}}
    steps = [
        {"method": "animate", "args": [[str(i)], at_once], "label": describe(position)}
        for i, position in enumerate(positions)
    ]
    return {
        "active": len(steps) - 1,
        "steps": steps,
        "currentvalue": {"prefix": "", "xanchor": "left", "font": {"size": 14}},
        "font": {"size": 11},
        "ticklen": 0 if len(steps) > _MOST_TICKS else 4,
        "minorticklen": 0 if len(steps) > _MOST_TICKS else 4,
        "pad": {"t": below, "l": 20, "r": 45},  # half a label at the ends
    }


_GRID = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False, "fixedrange": True}


def _layout(y: str) -> dict[str, Any]:
    return {
        "template": "none",
        "paper_bgcolor": _TRANSPARENT,
        "plot_bgcolor": _TRANSPARENT,
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 50, "r": 10, "t": 10, "b": 10},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "yaxis": _GRID | {"title": {"text": y}, "automargin": True},
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
