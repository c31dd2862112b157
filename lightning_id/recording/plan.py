"""Order, depth and inputs of the layers, planned from the first batch for all measurements."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from lightning_id.recording.axes import module_of_same_axes
from lightning_id.recording.hooks import Hooks
from lightning_id.recording.inputs import InputSearch
from lightning_id.recording.layers import INPUT, LAST_HIDDEN
from lightning_id.recording.modules import named_layers, why_never_called
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
    """Watches the first batch, whose input and last hidden representation it records."""

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        names: Mapping[str, str],
        modules: Mapping[str, nn.Module],
        recorder: Recorder,
        is_input_named: bool,
        finds_last_hidden: bool,
    ) -> None:
        self._model = model
        self._names = names
        self._modules = modules
        self._recorder = recorder
        self._is_input_named = is_input_named
        self._finds_last_hidden = finds_last_hidden
        self._hooks = Hooks()
        self._search: InputSearch | None = None
        if INPUT in names:
            self._search = InputSearch(self._record_input)
            self._search.attach(model, self._hooks)
        keep = partial(recorder.keep, LAST_HIDDEN) if finds_last_hidden else None
        self._trace = Trace(modules, keep)
        self._trace.attach(model, batch)

    def finish(self) -> Plan:
        """Record the last hidden representation, remove the hooks and return the plan."""
        trace, ends = self._trace, self._trace.ends
        for kept in ends.ends[0].kept if ends.last_linear is not None else ():
            self._recorder.record_kept(LAST_HIDDEN, kept)
        self.cancel()
        plan = Plan(list(trace.order), {name: trace.relative_depth(name) for name in trace.order})
        if self._finds_last_hidden:
            self._add_last_hidden(plan)
        if self._search is not None:
            self._add_input(plan, self._search)
        self._add_never_called(plan)
        return plan

    def cancel(self) -> None:
        """Remove the hooks. Idempotent; safe to call at any point."""
        self._hooks.remove()
        self._trace.remove()

    def _record_input(self, given: Tensor, module: nn.Module) -> None:
        if given.is_floating_point() or self._is_input_named:
            self._recorder.record(self._names[INPUT], given, module_of_same_axes(module))

    def _add_last_hidden(self, plan: Plan) -> None:
        trace = self._trace
        if trace.ends.last_linear is None:
            plan.reasons[LAST_HIDDEN] = trace.ends.why_no_linear(self._name_of)
            return
        depth = plan.depths[LAST_HIDDEN] = trace.relative_depth(LAST_HIDDEN)
        later = [i for i, name in enumerate(plan.order) if plan.depths[name] > depth]
        plan.order.insert(later[0] if later else len(plan.order), LAST_HIDDEN)
        plan.given[LAST_HIDDEN] = self._name_of(trace.ends.last_linear)

    def _add_input(self, plan: Plan, search: InputSearch) -> None:
        has_ids = search.input_dtype is not None and not search.input_dtype.is_floating_point
        if has_ids and not self._is_input_named:
            return  # the first layer is the embedding
        name = self._names[INPUT]
        plan.depths[name] = 0.0
        plan.order.insert(0, name)
        if search.source is not None:
            plan.given[name] = self._name_of(search.source)
        elif search.reason is not None:
            plan.reasons[name] = search.reason

    def _add_never_called(self, plan: Plan) -> None:
        modules = named_layers(self._model)
        for name, shown in self._names.items():
            if shown in self._modules and shown not in plan.depths:
                plan.reasons[shown] = why_never_called(self._model, modules[name])
        plan.order += [name for name in self._modules if name not in plan.depths]
        if LAST_HIDDEN in self._names and LAST_HIDDEN not in plan.order:
            plan.order.append(LAST_HIDDEN)

    def _name_of(self, module: nn.Module) -> str:
        """Return the name of a module; ``""`` for the model."""
        if module is self._model:
            return ""
        return next(name for name, each in named_layers(self._model).items() if each is module)
