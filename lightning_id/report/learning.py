"""Whether a network has learnt, by the accuracy that its user logs."""

from typing import NamedTuple

from lightning_id.history import BEFORE_TRAINING, FIT, History, Validation, validation_of
from lightning_id.history.queries import describe, last_of_fit, metric_names, metric_values

# Of the way from chance to 1. Without learning, the most frequent class alone is above chance: by
# 1.5 % of the way on the digits of MNIST.
LEARNT = 0.05


class Accuracy(NamedTuple):
    """An accuracy before and during a fit."""

    name: str  # of the metric
    values: dict[Validation, float]  # by measurement or end of an epoch, as shares
    chance: float | None  # one over the outputs; None if the output was not measured

    @property
    def has_learnt(self) -> bool | None:
        """Whether the last accuracy is far enough above chance; None where that is not known."""
        if self.chance is None:
            return None
        least = min(self.chance + LEARNT * (1 - self.chance), 2 * self.chance)
        return list(self.values.values())[-1] >= least


def accuracy(history: History) -> Accuracy | None:
    """Return the first logged accuracy of validation, if there is one."""
    names = [n for n in metric_names(history) if "acc" in n.lower() and "train" not in n.lower()]
    for name in sorted(names, key=lambda name: not name.startswith("val")):
        found = metric_values(history, name)
        values = {v: a for v, a in found.items() if v.stage in (BEFORE_TRAINING, FIT)}
        if any(v.stage == FIT for v in values):
            scale = 100 if max(values.values()) > 1 else 1  # some log percent
            return Accuracy(name, {v: a / scale for v, a in values.items()}, _chance(history))
    return None


def has_learnt(history: History) -> bool | None:
    """Return whether the trained network has learnt; None where that is not known."""
    found = accuracy(history)
    return None if found is None else found.has_learnt


def accuracy_finding(history: History) -> str | None:
    """Give the first, the best and the last accuracy, and name a network that has not learnt."""
    found = accuracy(history)
    if found is None:
        return None
    times = list(found.values)
    best = max(times, key=found.values.__getitem__)
    first, top, last = (
        f"{found.values[time]:.1%} ({describe(time)})" for time in (times[0], best, times[-1])
    )
    text = f"{found.name}: first {first}, best {top}, last {last}."
    if found.has_learnt is False:
        text += (
            f" The network has not learnt: chance is {found.chance:.1%}. The profile is not one of"
            " a trained network."
        )
    return text


def _chance(history: History) -> float | None:
    last = last_of_fit(history.validations())
    outputs = [r for r in history.records if r["depth"] == 1 and validation_of(r) == last]
    width = outputs[-1]["ambient_dimension"] if outputs else None
    return 1 / width if width is not None and width > 1 else None
