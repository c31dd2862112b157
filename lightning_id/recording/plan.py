"""Order, depth and inputs of the layers, planned from the first batch for all measurements."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from lightning_id.recording.inputs import InputSearch
from lightning_id.recording.layers import INPUT, LAST_HIDDEN, PSEUDO
from lightning_id.recording.modules import named_layers, unwrapped, why_never_called
from lightning_id.recording.recorder import Recorder
from lightning_id.recording.trace import Trace


@dataclass
class Plan:
    """The layers of a model by name, as one forward pass showed them."""

    order: list[str] = field(default_factory=list)  # of execution; layers never called come last
    depths: dict[str, float] = field(default_factory=dict)  # relative; only of layers called
    given: dict[str, str] = field(default_factory=dict)  # pseudo-layer to module; "" is the model
    reasons: dict[str, str] = field(default_factory=dict)  # why a layer has no rows
    # Layers whose rows do not fit into memory unprojected; None before the first measurement.
    projected: frozenset[str] | None = None


class Planner:
    """Watches the first batch, by hooks of a recorder, which records the pseudo-layers."""

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        names: Mapping[str, str],
        recorder: Recorder,
        is_input_named: bool,
        finds_last_hidden: bool,
    ) -> None:
        self._names = names
        self._recorder = recorder
        self._model = model
        self._modules = {"": model, **named_layers(model)}
        self._finds_last_hidden = finds_last_hidden
        self._search: InputSearch | None = None
        if INPUT in names:
            self._search = InputSearch(partial(recorder.record, names[INPUT]), is_input_named)
            self._search.attach(model, recorder.hooks)
        keep = partial(recorder.keep, LAST_HIDDEN) if finds_last_hidden else None
        self._trace = Trace(recorder.modules, keep)
        self._trace.attach(model, recorder.hooks, batch)

    def finish(self) -> Plan:
        """Record the last hidden representation, and return the plan."""
        trace = self._trace
        depths = {name: depth / max(1, trace.total) for name, depth in trace.depths.items()}
        plan = Plan(list(depths), depths)
        if self._finds_last_hidden:
            self._add_last_hidden(plan)
        if self._search is not None:
            self._add_input(plan, self._search)
        self._add_never_called(plan)
        return plan

    def _add_last_hidden(self, plan: Plan) -> None:
        trace, last = self._trace, self._trace.last_linear
        if last is None:
            plan.reasons[LAST_HIDDEN] = trace.why_no_linear(self._name_of)
            return
        for kept in trace.ends[0].kept:
            self._recorder.record_kept(LAST_HIDDEN, kept)
        depth = plan.depths[LAST_HIDDEN] = trace.depth_before(last) / trace.total
        later = [i for i, name in enumerate(plan.order) if plan.depths[name] > depth]
        plan.order.insert(later[0] if later else len(plan.order), LAST_HIDDEN)
        plan.given[LAST_HIDDEN] = self._name_of(last)

    def _add_input(self, plan: Plan, search: InputSearch) -> None:
        if search.is_left_out:
            return
        name = self._names[INPUT]
        plan.depths[name] = 0.0
        plan.order.insert(0, name)
        if search.source is not None:
            plan.given[name] = self._name_of(search.source)
        elif search.reason is not None:
            plan.reasons[name] = search.reason

    def _add_never_called(self, plan: Plan) -> None:
        for name, shown in self._names.items():
            if name not in PSEUDO and shown not in plan.depths:
                plan.reasons[shown] = why_never_called(self._model, self._modules[name])
                plan.order.append(shown)
        if LAST_HIDDEN in self._names and LAST_HIDDEN not in plan.order:
            plan.order.append(LAST_HIDDEN)

    def _name_of(self, module: nn.Module) -> str:
        """Return the name of a module or of the wrapper around it; ``""`` for the model."""
        # By identity: metrics are modules that equal everything.
        return next(n for n, m in self._modules.items() if module is m or module is unwrapped(m))
