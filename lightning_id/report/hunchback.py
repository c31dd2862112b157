"""Whether the profile is a hunchback, and whether training formed it."""

import math
import statistics
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

from lightning_id.history import BEFORE_TRAINING, History, Placed
from lightning_id.history.differences import Difference, between, since
from lightning_id.history.queries import before_training, last_hidden, last_of_fit, profile
from lightning_id.report.learning import has_learnt
from lightning_id.report.wording import at, short

NARROW = 2.0  # a layer with fewer units than this times the median has no room for the dimension


class Shape(NamedTuple):
    """The first layer, the highest one inside, and the last wide one, of one measurement."""

    first: Placed
    top: Placed
    end: Placed

    @property
    def sides(self) -> tuple[Difference, Difference]:
        """The top above the first layer, and above the last one."""
        return between(self.top, self.first), between(self.top, self.end)

    @property
    def has_peak(self) -> bool:
        """Whether the top is significantly above both ends."""
        return all(side.is_increase for side in self.sides)

    @property
    def ratios(self) -> str:
        """The top over both ends."""
        ends = [each["value"] for each in (self.first, self.end)]
        return " and ".join(f"{self.top['value'] / end:.2f}" if end else "-" for end in ends)

    def __str__(self) -> str:
        """Return the three layers with their 95 % bars."""
        return ", ".join(map(at, self))


def wide_layers(layers: Sequence[Placed]) -> list[Placed]:
    """Return the layers with room for the dimension: at least twice the median of units."""
    least = NARROW * median_of(layers) if layers else 0.0
    return [layer for layer in layers if (layer["ambient_dimension"] or math.inf) >= least]


def median_of(layers: Iterable[Placed]) -> float:
    """Return the median of the dimensions."""
    return statistics.median(layer["value"] for layer in layers)


def hunchback(history: History) -> str:
    """Decide whether a hunchback formed in training, was there from the start, or is absent.

    The dimension has to be higher inside than at both ends, the input and the last layer wide
    enough to hold it, by the paired 95 % bars. Training formed it where the untrained network on
    the same samples has none, and the peak has risen significantly above the ends since, or where
    it has risen above both by significantly more than its height was.
    """
    layers = profile(history)
    now = _shape(layers)
    if now is None:
        n_wide = len(wide_layers(layers))
        return (
            "Inconclusive: needs a layer between two that have room for the dimension, this profile"
            f" has {n_wide} with room."
        )
    if any(math.isnan(side.std_error) for side in now.sides):
        return f"Inconclusive: no error bars: {now}."
    return _origin(history, now) if now.has_peak else _absent(now)


def _origin(history: History, now: Shape) -> str:
    """Return whether training formed a peak, or why that is not known."""
    trained, before = last_of_fit(history.validations()), before_training(history)
    if trained is not None and trained.stage == BEFORE_TRAINING:
        return f"Of the untrained network: a peak inside without any training. {_heights(now)}"
    if has_learnt(history) is False:
        return f"Not one of training: the network has not learnt. A peak is inside. {_heights(now)}"
    untrained = [] if before is None else profile(history, before)
    then = _same_layers(now, untrained)
    if then is None:
        return (
            "There now; inconclusive whether training formed it, because the untrained network was"
            f" not measured on the same samples. {_heights(now)}"
        )
    return _formed(now, then, _inside(then.first, then.end, untrained).has_peak)


def _absent(now: Shape) -> str:
    sides = zip(now.sides, (now.first, now.end), strict=True)
    lower = [(side, short(end["layer"])) for side, end in sides if not side.is_increase]
    return (
        f"Absent. The highest layer between the ends, {short(now.top['layer'])}, is not"
        f" significantly above {' and '.join(name for _, name in lower)}:"
        f" {' and '.join(str(side) for side, _ in lower)}"
        f" ({bars_of(side for side, _ in lower)}). {now}."
    )


def _formed(now: Shape, untrained: Shape, had_peak: bool) -> str:
    rise = since(now.top, untrained.top)
    ends = [since(now.first, untrained.first), since(now.end, untrained.end)]
    grown = [rise.minus(end) for end in ends]
    missing = [not side.is_increase for side in untrained.sides]
    is_mostly_new = all(
        growth.minus(height).is_increase
        for growth, height in zip(grown, untrained.sides, strict=True)
    )
    if had_peak and is_mostly_new:
        verdict = "Formed in training, from a slight one of the untrained network."
    elif had_peak:
        verdict = "There from the start, in the untrained network too."
    elif all(growth.is_increase for growth, lacks in zip(grown, missing, strict=True) if lacks):
        verdict = "Formed in training."
    else:
        verdict = "Inconclusive whether training formed it: it has not risen significantly since."
    return (
        f"{verdict} {_heights(now)} Due to training are {grown[0]} of the height above"
        f" {short(now.first['layer'])} and {grown[1]} of that above {short(now.end['layer'])}"
        f" ({bars_of(grown)}); peak over input and over last: {untrained.ratios} before training,"
        f" {now.ratios} now."
    )


def _heights(shape: Shape) -> str:
    rise, fall = shape.sides
    top, first, end = (short(each["layer"]) for each in (shape.top, shape.first, shape.end))
    return (
        f"{top} is {rise} above {first} and {fall} above {end} ({bars_of(shape.sides)}): {shape}."
    )


def bars_of(differences: Iterable[Difference]) -> str:
    """Name the bars of differences."""
    is_paired = all(difference.is_paired for difference in differences)
    return "paired 95 % bars" if is_paired else "95 % bars from separate errors, too wide"


def _shape(layers: Sequence[Placed]) -> Shape | None:
    wide = wide_layers(layers)
    end = last_hidden(wide) or (wide[-1] if wide else None)
    if end is None or layers.index(end) < 2:
        return None
    return _inside(layers[0], end, layers)


def _inside(first: Placed, end: Placed, layers: Sequence[Placed]) -> Shape:
    """Return the shape with the highest layer between two layers."""
    inside = layers[layers.index(first) + 1 : layers.index(end)]
    return Shape(first, max(inside, key=itemgetter("value")), end)


def _same_layers(now: Shape, layers: Sequence[Placed]) -> Shape | None:
    """Return the layers of a shape in another measurement of the same samples."""
    found = {layer["layer"]: layer for layer in layers}
    if any(each["layer"] not in found for each in now):
        return None
    then = Shape(*(found[each["layer"]] for each in now))
    return then if then.top["n_samples"] == now.top["n_samples"] else None
