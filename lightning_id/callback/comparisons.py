"""The difference of every estimate from other measurements of a fit, and from other layers."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from lightning_id.functional.change import Change, change_of_estimates
from lightning_id.functional.estimate import Estimate, Influence
from lightning_id.history import Record
from lightning_id.recording.results import Changes, LayerResult


class _Key(NamedTuple):
    data: str
    layer: str
    estimator: str


class Comparisons:
    """Keeps the first, the previous and the lowest estimate, and compares each new one with them.

    Of estimators with an error bar; the first is that of the first measurement with an estimate.
    """

    def __init__(self) -> None:
        self._first: dict[_Key, Estimate] = {}
        self._previous: dict[_Key, Estimate] = {}
        self._lowest: dict[_Key, Estimate] = {}

    def compare(self, data: str, result: LayerResult) -> None:
        """Write the changes of a layer into its result, and keep its estimates for the next."""
        for name, estimate in result.estimates.items():
            if estimate.reason is not None or estimate.influence is None:
                continue
            key = _Key(data, result.layer, name)
            if key in self._first:
                kept = self._first[key], self._previous[key], self._lowest[key]
                result.changes[name] = Changes(*(_from(before, estimate) for before in kept))
            self._previous[key] = _kept(estimate)
            self._first.setdefault(key, self._previous[key])
            if estimate.value <= self._lowest.setdefault(key, self._previous[key]).value:
                self._lowest[key] = self._previous[key]

    def clear(self) -> None:
        """Forget the estimates: a different model is measured."""
        self._first.clear()
        self._previous.clear()
        self._lowest.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the estimates in plain types, which ``torch.load(weights_only=True)`` reads."""
        return {
            "first": _plain(self._first),
            "previous": _plain(self._previous),
            "lowest": _plain(self._lowest),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Replace the estimates by the ones of a `state_dict`."""
        self._first = _estimates(state_dict["first"])
        self._previous = _estimates(state_dict["previous"])
        # Earlier versions kept no lowest.
        self._lowest = _estimates(state_dict.get("lowest", state_dict["previous"]))


def compare_layers(results: Sequence[LayerResult], records: Iterable[Record]) -> None:
    """Write the paired differences of layers into the records of one measurement.

    From the first layer, which is the input where it is measured, and from that with the largest
    value. Layers whose rows are not the samples are left out.
    """
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


def _plain(estimates: dict[_Key, Estimate]) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    return {
        (data, layer, name): (estimate.value, influence.shares, influence.neighbors)
        for (data, layer, name), estimate in estimates.items()
        if (influence := estimate.influence) is not None
    }


def _estimates(plain: dict[tuple[str, str, str], tuple[Any, ...]]) -> dict[_Key, Estimate]:
    return {
        _Key(*key): Estimate(value, influence=Influence(shares, neighbors))
        for key, (value, shares, neighbors) in plain.items()
    }
