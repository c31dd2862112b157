"""The change of every estimate since the first and the previous measurement of a fit."""

from typing import Any, NamedTuple

from lightning_id.functional.change import Change, change_of_estimates
from lightning_id.functional.estimate import Estimate, Influence
from lightning_id.recording.results import Changes, LayerResult


class _Key(NamedTuple):
    data: str
    layer: str
    estimator: str


class Comparisons:
    """Keeps the estimates of two measurements, and compares each new one with them.

    Of estimators with an error bar; the first is that of the first measurement with an estimate.
    """

    def __init__(self) -> None:
        self._first: dict[_Key, Estimate] = {}
        self._previous: dict[_Key, Estimate] = {}

    def compare(self, data: str, result: LayerResult) -> None:
        """Write the changes of a layer into its result, and keep its estimates for the next."""
        for name, estimate in result.estimates.items():
            if estimate.reason is not None or estimate.influence is None:
                continue
            key = _Key(data, result.layer, name)
            if key in self._first:
                result.changes[name] = Changes(
                    _from(self._first[key], estimate), _from(self._previous[key], estimate)
                )
            self._previous[key] = _kept(estimate)
            self._first.setdefault(key, self._previous[key])

    def clear(self) -> None:
        """Forget the estimates: a different model is measured."""
        self._first.clear()
        self._previous.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the estimates in plain types, which ``torch.load(weights_only=True)`` reads."""
        return {"first": _plain(self._first), "previous": _plain(self._previous)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Replace the estimates by those of a `state_dict`."""
        self._first = _estimates(state_dict["first"])
        self._previous = _estimates(state_dict["previous"])


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
