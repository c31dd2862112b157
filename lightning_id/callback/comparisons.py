"""The difference of every estimate from other measurements of a fit, and from other layers."""

from collections.abc import Iterable, Sequence
from typing import Any

from lightning_id.functional.change import Change, change_of_estimates
from lightning_id.functional.estimate import Estimate, Influence
from lightning_id.history import Record
from lightning_id.recording.results import Changes, LayerResult

_Key = tuple[str, str, str]  # sample set, layer, estimator


class Comparisons:
    """Keeps the first, the previous and the lowest estimate, and compares each new one with them.

    Of estimators with an error bar; the first is that of the first measurement with an estimate.
    """

    def __init__(self) -> None:
        self._before: dict[str, dict[_Key, Estimate]] = {"first": {}, "previous": {}, "lowest": {}}

    def compare(self, data: str, result: LayerResult) -> None:
        """Write the changes of a layer into its result, and keep its estimates for the next."""
        first, previous, lowest = self._before.values()
        for name, estimate in result.estimates.items():
            if estimate.reason is not None or estimate.influence is None:
                continue
            key = data, result.layer, name
            if key in first:
                before = first[key], previous[key], lowest[key]
                result.changes[name] = Changes(*(_from(each, estimate) for each in before))
            previous[key] = _kept(estimate)
            first.setdefault(key, previous[key])
            if estimate.value <= lowest.setdefault(key, previous[key]).value:
                lowest[key] = previous[key]

    def clear(self) -> None:
        """Forget the estimates: a different model is measured."""
        for estimates in self._before.values():
            estimates.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the estimates in plain types, which ``torch.load(weights_only=True)`` reads."""
        return {name: _plain(estimates) for name, estimates in self._before.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Replace the estimates by the ones of a `state_dict`."""
        for name in self._before:  # earlier versions kept no lowest
            plain = state_dict.get(name, state_dict["previous"])
            self._before[name] = _estimates(plain)


def compare_layers(results: Sequence[LayerResult], records: Iterable[Record]) -> None:
    """Write the paired differences from the first layer and from the peak into the records."""
    # Layers whose rows are not the samples are left out.
    estimates: dict[str, dict[str, Estimate]] = {}
    for result in results:
        for name, estimate in result.estimates.items() if not result.rule_notes else ():
            if estimate.reason is None and estimate.influence is not None:
                estimates.setdefault(name, {})[result.layer] = estimate
    for record in records:
        of_layers = estimates.get(record["estimator"], {})
        if record["layer"] not in of_layers or record["label"] is not None:
            continue
        here = of_layers[record["layer"]]
        first, peak = next(iter(of_layers.values())), max(of_layers.values(), key=float)
        from_input = change_of_estimates(first, here)
        record["from_input"] = from_input.value
        record["from_input_std_error"] = from_input.std_error
        from_peak = change_of_estimates(peak, here)
        record["from_peak"] = from_peak.value
        record["from_peak_std_error"] = from_peak.std_error


def _from(before: Estimate, after: Estimate) -> Change:
    influence = before.influence
    assert influence is not None
    kept = Influence(influence.shares, influence.neighbors.long())
    return change_of_estimates(Estimate(before.value, influence=kept), after)


def _kept(estimate: Estimate) -> Estimate:
    influence = estimate.influence
    assert influence is not None
    return Estimate(
        estimate.value, influence=Influence(influence.shares, influence.neighbors.int())
    )


def _plain(estimates: dict[_Key, Estimate]) -> dict[_Key, tuple[Any, ...]]:
    return {
        key: (estimate.value, influence.shares, influence.neighbors)
        for key, estimate in estimates.items()
        if (influence := estimate.influence) is not None
    }


def _estimates(plain: dict[_Key, tuple[Any, ...]]) -> dict[_Key, Estimate]:
    return {
        key: Estimate(value, influence=Influence(shares, neighbors))
        for key, (value, shares, neighbors) in plain.items()
    }
