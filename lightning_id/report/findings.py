"""Findings in plain words: one rule each, with its threshold.

Every rule reads the last measurement of the fit (`lightning_id.history.queries.last_of_fit`), and
names the missing data where it is inconclusive. All layers are measured on the same samples, so
their errors are correlated and the combined error bar of a difference is too large: the rules err
on the side of finding nothing.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from lightning_id._checks import kind_of
from lightning_id.figures import LOWER_BOUND_ABOVE
from lightning_id.figures._data import shortened
from lightning_id.functional import estimator_spec
from lightning_id.functional.estimate import NORMAL_975
from lightning_id.functional.pca import rounding_noise
from lightning_id.history import History, Placed, Record, has_value, queries, validation_of
from lightning_id.history.queries import before_training, describe, last_of_fit, profile, start
from lightning_id.history.tables import value_with_error

ERROR_BARS = NORMAL_975  # combined standard errors that a difference must exceed: the 95 % interval
PCA_FAR_ABOVE = 3.0  # times TwoNN
GAP = 2.0  # times the next eigenvalue
GAP_WITHIN = 0.5, 4.0  # times TwoNN: where the spectrum of a linear representation would fall
FLAT_WITHIN = 0.25  # of the median; the untrained VGG-16 of Ansuini et al. stays within 0.18
NARROW = 2.0  # a layer with fewer units than this times the median has no room for the dimension
NAMES_SHOWN = 6  # of the layers in a list
NAME_LENGTH = 60  # letters of a name in a sentence

_Condition = Literal["estimator", "n_samples", "data", "reduce"]  # of a measurement


class Finding(NamedTuple):
    """The result of a rule: a topic, for example ``"Hunchback"``, and a sentence."""

    topic: str
    text: str


def findings(history: History) -> list[Finding]:
    """Apply all rules to a run, in the order of `RULES`."""
    if not history.records:
        return [Finding("Nothing", "Nothing was measured: the history has no records.")]
    found = ((topic, rule(history)) for topic, rule in RULES.items())
    return [Finding(topic, text) for topic, text in found if text]


def hunchback(history: History) -> str:
    """Decide whether the dimension peaks inside the network, above both ends by the error bars."""
    layers = profile(history)
    if len(layers) < 3:
        return f"Inconclusive: needs three layers with a dimension, this profile has {len(layers)}."
    first, *interior, end = layers
    top = max(interior, key=itemgetter("value"))
    shape = f"{_at(first)}, {_at(top)}, {_at(end)}"
    lower = [layer for layer in (first, end) if not _is_clearly_above(top, layer)]
    if not lower:
        return f"Yes. From the first layer through the peak to the last: {shape}."
    if any(math.isnan(_error(layer)) for layer in (top, *lower)):
        return f"Inconclusive: no error bars: {shape}."
    names = " and ".join(_short(layer["layer"]) for layer in lower)
    return (
        f"No. The highest layer between the ends is not above {names}"
        f" by more than the combined error bars: {shape}."
    )


def peak(history: History) -> str | None:
    """Locate the largest dimension."""
    layers = profile(history)
    if not layers:
        return None
    top = max(layers, key=itemgetter("value"))
    width = "" if top["ambient_dimension"] is None else f", of {top['ambient_dimension']} units"
    return f"{_at(top)}, at relative depth {top['depth']:.2f}{width}."


def last_hidden(history: History) -> str | None:
    """Compare the dimension of the last hidden layer with the start, by the error bars."""
    begin, end = start(history), last_of_fit(history.validations())
    now = queries.last_hidden(profile(history, end))
    then = queries.last_hidden(profile(history, begin)) if begin else None
    if now is None or end is None:
        return None
    if then is None or begin is None:
        return f"{_at(now)}. There is no earlier value to compare it with."
    if then["n_samples"] != now["n_samples"]:
        return (
            f"{_at(now)}. It is not compared with the start: {then['n_samples']} samples were"
            f" measured then and {now['n_samples']} now, and the dimension depends on that."
        )
    values = (
        f"at {_short(now['layer'])}: {value_with_error(then)} ({describe(begin)}),"
        f" {value_with_error(now)} ({describe(end)})"
    )
    if _is_clearly_above(then, now):
        return f"Decreased by {_percent(1 - now['value'] / then['value'])} {values}."
    if _is_clearly_above(now, then):
        return f"Increased by {_percent(now['value'] / then['value'] - 1)} {values}."
    return f"No change beyond the combined error bars {values}."


def linear_above_nonlinear(history: History) -> str | None:
    """Name the layers where PCA needs many times the dimensions that TwoNN finds."""
    pairs = _beside_twonn(history, "pca")
    if not pairs:
        return None
    components, most = max(pairs, key=_ratio)
    largest = (
        f"{_short(most['layer'])}: {components['value']:g} components against"
        f" {value_with_error(most)}, ratio {_ratio((components, most)):.1f}"
    )
    far = [pair[1]["layer"] for pair in pairs if _ratio(pair) >= PCA_FAR_ABOVE]
    if not far:
        return f"In no layer {PCA_FAR_ABOVE:g} times TwoNN or more; the most in {largest}."
    has_bound = bool(_lower_bounds(r for _, r in pairs))
    bound = "; where TwoNN is a lower bound, the ratio is an upper one" if has_bound else ""
    return (
        f"At least {PCA_FAR_ABOVE:g} times TwoNN in {len(far)} of {len(pairs)} layers"
        f" ({_names(far)}): there the representation is curved. Most in {largest}{bound}."
    )


def gaussian_above_nonlinear(history: History) -> str | None:
    """Name the layers where Gaussian rows of the same covariance have a higher TwoNN."""
    pairs = _beside_twonn(history, "twonn_gaussian")
    if not pairs:
        return None
    above = [r["layer"] for control, r in pairs if _is_clearly_above(control, r)]
    where = f" ({_names(above)})" if above else ""
    control, most = max(pairs, key=_ratio)
    return (
        "TwoNN of Gaussian rows of the same covariance is above that of the layer, by more than the"
        f" combined error bars, in {len(above)} of {len(pairs)} layers{where}. Most in"
        f" {_short(most['layer'])}: {value_with_error(control)} against"
        f" {value_with_error(most)}, ratio {_ratio((control, most)):.1f}."
    )


def gap_in_spectrum(history: History) -> str | None:
    """Find a gap between neighbouring eigenvalues of the covariance near the TwoNN dimension.

    A linear representation would have as many eigenvalues before the gap as dimensions.
    """
    last = last_of_fit(history.validations())
    spectra = history.spectra.get(last, {}) if last else {}
    found = {
        record["layer"]: _largest_gap(spectra[record["layer"]], record)
        for record in profile(history, last, "twonn")
        if record["layer"] in spectra
    }
    gaps = {layer: gap for layer, gap in found.items() if gap}
    if not gaps:
        return None
    largest = max(gaps, key=lambda layer: gaps[layer])
    ratio, place = gaps[largest]
    far = [layer for layer in gaps if gaps[layer][0] >= GAP]
    answer = f"A gap in {len(far)}" if far else "No gap in any"
    where = f" ({_names(far)})" if far else ""
    low, high = GAP_WITHIN
    return (
        f"{answer} of {len(gaps)} layers{where}: an eigenvalue of at least {GAP:g} times the next,"
        f" at {low:g} to {high:g} times TwoNN. The largest ratio is {ratio:.2f}, after"
        f" eigenvalue {place} of {_short(largest)}."
    )


def _largest_gap(eigenvalues: Tensor, layer: Placed) -> tuple[float, int] | None:
    """Return the largest ratio of an eigenvalue near the dimension to the next, and its place."""
    n_samples = layer["n_samples"] or 0
    values = eigenvalues.double()[: max(n_samples - 1, 0)]  # centred rows span one dimension less
    low, high = (round(times * layer["value"]) for times in GAP_WITHIN)
    first = max(low, 1)
    if not first < len(values) or not values[0] > 0:
        return None
    values = values.clamp_min(rounding_noise(values, n_samples))
    ratios = (values[:-1] / values[1:])[first - 1 : max(high, first)]
    return float(ratios.max()), first + int(ratios.argmax())


def untrained_profile(history: History) -> str:
    """Decide whether the profile of the untrained network is flat: all layers near the median.

    Layers too narrow for the dimension, such as ten outputs, are left out.
    """
    before = before_training(history)
    if before is None:
        return "Not measured; Trainer(num_sanity_val_steps=-1), or `profile --both`, measures it."
    layers = profile(history, before)
    if not layers:
        return "Measured, but no layer has a dimension."
    median = _median(layers)
    wide = [r for r in layers if (r["ambient_dimension"] or math.inf) >= NARROW * median]
    if len(wide) < 2:
        return f"Inconclusive: needs two layers wide enough, this profile has {len(wide)}."
    median = _median(wide)
    if median <= 0:
        return "Inconclusive: the median of the layers is 0."
    farthest = max(wide, key=lambda layer: abs(layer["value"] - median))
    away = farthest["value"] / median - 1
    narrow = [layer["layer"] for layer in layers if layer not in wide]
    without = f" Without {_names(narrow)}, too narrow for it." if narrow else ""
    return (
        f"{'Flat' if abs(away) <= FLAT_WITHIN else 'Not flat'}. The layer farthest from the median"
        f" of {median:.2f} is {_short(farthest['layer'])}, {_percent(abs(away))}"
        f" {'above' if away > 0 else 'below'} it; up to {_percent(FLAT_WITHIN)} counts as flat."
        f"{without}"
    )


def lower_bounds(history: History) -> str | None:
    """List the TwoNN values that are too high to be more than lower bounds."""
    layers = _lower_bounds(profile(history, estimator="twonn"))
    if not layers:
        return None
    values = [_at(layer) for layer in layers[:NAMES_SHOWN]]
    return (
        f"Above about {LOWER_BOUND_ABOVE} TwoNN is a lower bound: {_listed(values, len(layers))}."
        " The true dimension is at least that."
    )


def not_estimated(history: History) -> str | None:
    """List the layers without a dimension by the reason."""
    last = last_of_fit(history.validations())
    missing = [r for r in history.records if r["label"] is None and not has_value(r)]
    now = [r for r in missing if validation_of(r) == last]
    reasons: dict[str, list[Record]] = {}  # by kind
    for record in now:
        kind = kind_of(record["reason"] or "", record["layer"])
        reasons.setdefault(kind, []).append(record)
    texts = [_reason(records) for records in reasons.values()]
    if len(missing) > len(now):
        texts.append(f"{len(missing) - len(now)} values of other measurements are missing too.")
    return " ".join(texts) or None


def _reason(records: Sequence[Record]) -> str:
    """Return the sentence on records without a dimension for one kind of reason."""
    titles = dict.fromkeys(estimator_spec(record["estimator"]).title for record in records)
    layers = dict.fromkeys(record["layer"] for record in records)
    first, *others = dict.fromkeys(r["reason"] or "no reason is recorded" for r in records)
    of_first = f" (in {_short(records[0]['layer'])}; other numbers elsewhere)" if others else ""
    return f"{', '.join(titles)} in {_names(list(layers))}: {first.removesuffix('.')}{of_first}."


def notes(history: History) -> str | None:
    """Repeat the estimators' notes on valid numbers, each once with its layers."""
    by_note: dict[str, dict[str, None]] = {}
    last = last_of_fit(history.validations())
    for estimator in queries.estimators(history):
        for record in history.at(last, estimator) if last else []:
            if record["note"]:
                by_note.setdefault(record["note"].removesuffix("."), {})[record["layer"]] = None
    return " ".join(f"{_names(list(layers))}: {note}." for note, layers in by_note.items()) or None


RULES: dict[str, Callable[[History], str | None]] = {
    "Hunchback": hunchback,
    "Peak": peak,
    "Last hidden layer": last_hidden,
    "PCA": linear_above_nonlinear,
    "Gaussian": gaussian_above_nonlinear,
    "Spectrum": gap_in_spectrum,
    "Untrained network": untrained_profile,
    "Lower bounds": lower_bounds,
    "Not estimated": not_estimated,
    "Notes": notes,
}


def not_comparable(runs: Mapping[str, History]) -> Finding | None:
    """List the differences of runs on which the dimension depends, with the values of each run."""
    parts = []
    columns: tuple[_Condition, ...] = get_args(_Condition)
    profiles = {name: profile(history) for name, history in runs.items()}
    for column in columns:
        values = {name: _distinct(layers, column) for name, layers in profiles.items()}
        if len({each for each in values.values() if each}) > 1:
            each = [f"{found} in {name}" for name, found in values.items() if found]
            parts.append(f"{column} is {'; '.join(each)}.")
    if not parts:
        return None
    parts.append("The dimension depends on that: a difference of the runs may come from it.")
    return Finding("Not comparable", " ".join(parts))


def _distinct(layers: Iterable[Placed], column: _Condition) -> str:
    return ", ".join(sorted({str(r[column]) for r in layers if r[column] is not None}))


def _beside_twonn(history: History, estimator: str) -> list[tuple[Placed, Placed]]:
    """Return the records of an estimator, each with TwoNN of its layer, if both are known."""
    others = {r["layer"]: r for r in profile(history, estimator=estimator)}
    curved = [r for r in profile(history, estimator="twonn") if r["value"] > 0]
    return [(others[r["layer"]], r) for r in curved if r["layer"] in others]


def _ratio(pair: tuple[Placed, Placed]) -> float:
    return pair[0]["value"] / pair[1]["value"]


def _lower_bounds(layers: Iterable[Placed]) -> list[Placed]:
    return [layer for layer in layers if layer["value"] > LOWER_BOUND_ABOVE]


def _is_clearly_above(high: Placed, low: Placed) -> bool:
    """Compare by the combined error bars; without one (NaN) nothing is significant."""
    return high["value"] - low["value"] > ERROR_BARS * math.hypot(_error(high), _error(low))


def _median(layers: Iterable[Placed]) -> float:
    return statistics.median(layer["value"] for layer in layers)


def _error(record: Placed) -> float:
    return math.nan if record["std_error"] is None else float(record["std_error"])


def _at(record: Placed) -> str:
    return f"{value_with_error(record)} at {_short(record['layer'])}"


def _names(layers: Sequence[str]) -> str:
    return _listed([_short(layer) for layer in layers[:NAMES_SHOWN]], len(layers))


def _listed(shown: Sequence[str], total: int) -> str:
    more = total - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _short(layer: str) -> str:
    return shortened(layer, NAME_LENGTH)  # the table has it whole
