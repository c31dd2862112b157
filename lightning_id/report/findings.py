"""Findings in plain words: one rule each, with its threshold.

Every rule reads the last measurement of the fit (`lightning_id.history.queries.last_of_fit`), and
names the missing data where it is inconclusive. Every ± is half of a 95 % interval. All layers are
measured on the same samples at all times: differences are judged by their paired error bar where
the history has it, else by that of two separate errors, which is too large.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from lightning_id._checks import kind_of, listed
from lightning_id.figures import LOWER_BOUND_ABOVE
from lightning_id.functional import estimator_spec
from lightning_id.functional.pca import rounding_noise
from lightning_id.history import (
    History,
    Placed,
    Record,
    Validation,
    has_value,
    queries,
    validation_of,
)
from lightning_id.history.differences import separate, since
from lightning_id.history.queries import before_training, describe, last_of_fit, profile, start
from lightning_id.history.tables import value_with_error
from lightning_id.recording.layers import INPUT, LAST_HIDDEN
from lightning_id.report.hunchback import bars_of, hunchback, median_of, wide_layers
from lightning_id.report.learning import accuracy_finding, has_learnt
from lightning_id.report.wording import at, names, percent, short

PCA_FAR_ABOVE = 3.0  # times TwoNN
GAP = 2.0  # times the next eigenvalue
GAP_WITHIN = 0.5, 4.0  # times TwoNN: where the spectrum of a linear representation would fall
FLAT_WITHIN = 0.25  # of the median; the untrained VGG-16 of Ansuini et al. stays within 0.18

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


def peak(history: History) -> str | None:
    """Locate the largest dimension."""
    layers = profile(history)
    if not layers:
        return None
    top = max(layers, key=itemgetter("value"))
    width = "" if top["ambient_dimension"] is None else f", of {top['ambient_dimension']} units"
    return f"{at(top)}, at relative depth {top['depth']:.2f}{width}."


def last_hidden(history: History) -> str | None:
    """Compare the last hidden layer with the start and with its minimum, by the paired bars."""
    begin, end = start(history), last_of_fit(history.validations())
    now = queries.last_hidden(profile(history, end))
    then = queries.last_hidden(profile(history, begin)) if begin else None
    if now is None or end is None:
        return None
    if then is None or begin is None:
        return f"{at(now)}. There is no earlier value to compare it with."
    if then["n_samples"] == now["n_samples"]:
        return _change_of_last_hidden(history, now, then, begin, end)
    return (
        f"{at(now)}. It is not compared with the start: {then['n_samples']} samples were"
        f" measured then and {now['n_samples']} now, and the dimension depends on that."
    )


def _change_of_last_hidden(
    history: History, now: Placed, then: Placed, begin: Validation, end: Validation
) -> str:
    change = since(now, then)
    values = (
        f"at {short(now['layer'])}: {value_with_error(then)} ({describe(begin)}),"
        f" {value_with_error(now)} ({describe(end)}), change {change} ({bars_of([change])})"
    )
    share = abs(change.value) / then["value"] if then["value"] else math.nan
    if has_learnt(history) is False:
        return f"The network has not learnt: no finding on training {values}."
    verdict = "No significant change"
    if change.is_decrease or change.is_increase:
        verdict = f"{'Decreased' if change.is_decrease else 'Increased'} by {percent(share)}"
    return f"{verdict} {values}.{_after_minimum(history, now)}"


def _after_minimum(history: History, now: Placed) -> str:
    """Return a sentence on a significant increase after the minimum of a layer, if there is one."""
    courses = queries.profiles(history, queries.main_estimator(history))
    values = {
        time: record
        for time in queries.course(courses)
        for record in courses[time]
        if record["layer"] == now["layer"] and record["n_samples"] == now["n_samples"]
    }
    lowest = min(values, key=lambda time: values[time]["value"], default=None)
    if lowest is None or lowest == next(iter(values)):
        return ""  # the change from the start has it
    change = since(now, values[lowest])
    if not change.is_increase:
        return ""
    return (
        f" It expands again after its minimum of {value_with_error(values[lowest])}"
        f" ({describe(lowest)}): {change} ({bars_of([change])})."
    )


def linear_above_nonlinear(history: History) -> str | None:
    """Name the layers where PCA needs many times the dimensions that TwoNN finds."""
    pairs = _with_twonn(history, "pca")
    if not pairs:
        return None
    below = [pair[1]["layer"] for pair in pairs if _ratio(pair) < 1]
    few = (
        f" Below TwoNN in {names(below)}: a few directions hold 90 % of the variance there, and"
        " nearest neighbours depend on the others too."
        if below
        else ""
    )
    components, most = max(pairs, key=_ratio)
    largest = (
        f"{short(most['layer'])}: {components['value']:g} components against"
        f" {value_with_error(most)}, ratio {_ratio((components, most)):.1f}"
    )
    far = [pair[1]["layer"] for pair in pairs if _ratio(pair) >= PCA_FAR_ABOVE]
    if not far:
        return f"In no layer {PCA_FAR_ABOVE:g} times TwoNN or more; the most in {largest}.{few}"
    has_bound = bool(_lower_bounds(r for _, r in pairs))
    bound = "; where TwoNN is too low, the ratio is too high" if has_bound else ""
    return (
        f"At least {PCA_FAR_ABOVE:g} times TwoNN in {len(far)} of {len(pairs)} layers"
        f" ({names(far)}): there the representation is curved. Most in {largest}{bound}.{few}"
    )


def gaussian_above_nonlinear(history: History) -> str | None:
    """Name the layers where Gaussian rows of the same covariance have a higher TwoNN."""
    pairs = _with_twonn(history, "twonn_gaussian")
    if not pairs:
        return None
    above = [r["layer"] for control, r in pairs if separate(control, r).is_increase]
    where = f" ({names(above)})" if above else ""
    control, most = max(pairs, key=_ratio)
    return (
        "TwoNN of Gaussian rows of the same covariance is above that of the layer, by separate 95 %"
        f" bars, in {len(above)} of {len(pairs)} layers{where}. Most in"
        f" {short(most['layer'])}: {value_with_error(control)} against"
        f" {value_with_error(most)}, ratio {_ratio((control, most)):.1f}."
    )


def gap_in_spectrum(history: History) -> str | None:
    """Find a gap between neighbouring eigenvalues of the covariance near the TwoNN dimension.

    A linear representation would have as many eigenvalues before the gap as dimensions. The output
    is left out: logits under softmax have one free direction.
    """
    last = last_of_fit(history.validations())
    spectra = history.spectra.get(last, {}) if last else {}
    layers = profile(history, last, "twonn")
    hidden = queries.last_hidden(layers)
    inside = layers[: layers.index(hidden) + 1] if hidden else layers
    found = {
        record["layer"]: _largest_gap(spectra[record["layer"]], record)
        for record in inside
        if record["layer"] in spectra
    }
    gaps = {layer: gap for layer, gap in found.items() if gap}
    if not gaps:
        return None
    largest = max(gaps, key=lambda layer: gaps[layer])
    ratio, place = gaps[largest]
    far = [layer for layer in gaps if gaps[layer][0] >= GAP]
    answer = f"A gap in {len(far)}" if far else "No gap in any"
    where = f" ({names(far)})" if far else ""
    low, high = GAP_WITHIN
    return (
        f"{answer} of {len(gaps)} layers{where}: an eigenvalue of at least {GAP:g} times the next,"
        f" at {low:g} to {high:g} times TwoNN. The largest ratio is {ratio:.2f}, after"
        f" eigenvalue {place} of {short(largest)}."
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
    wide = wide_layers(layers)
    if len(wide) < 2:
        return f"Inconclusive: needs two layers wide enough, this profile has {len(wide)}."
    median = median_of(wide)
    if median <= 0:
        return "Inconclusive: the median of the layers is 0."
    farthest = max(wide, key=lambda layer: abs(layer["value"] - median))
    away = farthest["value"] / median - 1
    narrow = [layer["layer"] for layer in layers if layer not in wide]
    without = f" Without {names(narrow)}, too narrow for it." if narrow else ""
    return (
        f"{'Flat' if abs(away) <= FLAT_WITHIN else 'Not flat'}. The layer farthest from the median"
        f" of {median:.2f} is {short(farthest['layer'])}, {percent(abs(away))}"
        f" {'above' if away > 0 else 'below'} it; up to {percent(FLAT_WITHIN)} counts as flat."
        f"{without}"
    )


def lower_bounds(history: History) -> str | None:
    """List the TwoNN values above the one from which TwoNN is usually too low."""
    layers = _lower_bounds(profile(history, estimator="twonn"))
    if not layers:
        return None
    broken = [layer["layer"] for layer in layers if queries.breaks_law(layer)]
    unless = (
        f" In {names(broken)} the neighbour ratios do not follow its law, and it may be too high."
        if broken
        else " On curved or noisy data it may be too high."
    )
    return (
        f"Above about {LOWER_BOUND_ABOVE} TwoNN is usually too low:"
        f" {listed(map(at, layers))}.{unless}"
    )


def bracket(history: History) -> str | None:
    """Give the bracket from TwoNN to ESS at the peak and the last hidden layer.

    ESS counts the dimensions in which a patch of 100 neighbours bends, TwoNN is low where no sample
    is dense. Where TwoNN is significantly above, noise or one dominating direction is the cause.
    """
    pairs = _with_twonn(history, "ess")
    if not pairs:
        return None
    top = max(pairs, key=lambda pair: pair[1]["value"])
    shown = [top] + [pair for pair in pairs if pair[1]["role"] == LAST_HIDDEN and pair is not top]
    texts = [
        f"{value_with_error(low)} to {value_with_error(high)} at {short(low['layer'])}"
        for high, low in shown
        if high["value"] >= low["value"]
    ]
    text = "From TwoNN to ESS, the reading from above: " + ", ".join(texts) + "." if texts else ""
    above = [low["layer"] for high, low in pairs if separate(low, high).is_increase]
    if above:
        text += (
            f" TwoNN is significantly above ESS in {names(above)}: noise, or one direction that"
            " dominates."
        )
    return text.strip() or None


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
    of_first = f" (in {short(records[0]['layer'])}; other numbers elsewhere)" if others else ""
    return f"{', '.join(titles)} in {names(list(layers))}: {first.removesuffix('.')}{of_first}."


def notes(history: History) -> str | None:
    """Repeat the estimators' notes on valid numbers, each once with its layers."""
    by_note: dict[str, dict[str, None]] = {}
    last = last_of_fit(history.validations())
    for estimator in queries.estimators(history):
        for record in history.at(last, estimator) if last else []:
            if record["note"]:
                by_note.setdefault(record["note"].removesuffix("."), {})[record["layer"]] = None
    return " ".join(f"{names(list(layers))}: {note}." for note, layers in by_note.items()) or None


RULES: dict[str, Callable[[History], str | None]] = {
    "Hunchback": hunchback,
    "Accuracy": accuracy_finding,
    "Peak": peak,
    "Last hidden layer": last_hidden,
    "PCA": linear_above_nonlinear,
    "Gaussian": gaussian_above_nonlinear,
    "Spectrum": gap_in_spectrum,
    "Untrained network": untrained_profile,
    "Lower bounds": lower_bounds,
    "Bracket": bracket,
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
    parts += _inputs_that_differ(profiles)
    if not parts:
        return None
    parts.append("The dimension depends on that: a difference of the runs may come from it.")
    return Finding("Not comparable", " ".join(parts))


def _inputs_that_differ(profiles: Mapping[str, Sequence[Placed]]) -> list[str]:
    """Return a sentence if the inputs of runs differ in width or dimension: other data."""
    inputs = {
        name: f"{value_with_error(layer)} of {layer['ambient_dimension']} features in {name}"
        for name, layers in profiles.items()
        for layer in layers
        if layer["role"] == INPUT
    }
    distinct = {text.removesuffix(f" in {name}") for name, text in inputs.items()}
    if len(distinct) < 2:
        return []
    return [f"The dimension of the input is {'; '.join(inputs.values())}: other data or samples."]


def _distinct(layers: Iterable[Placed], column: _Condition) -> str:
    return ", ".join(sorted({str(r[column]) for r in layers if r[column] is not None}))


def _with_twonn(history: History, estimator: str) -> list[tuple[Placed, Placed]]:
    """Return the records of an estimator, each with TwoNN of its layer, if both are known."""
    others = {r["layer"]: r for r in profile(history, estimator=estimator)}
    curved = [r for r in profile(history, estimator="twonn") if r["value"] > 0]
    return [(others[r["layer"]], r) for r in curved if r["layer"] in others]


def _ratio(pair: tuple[Placed, Placed]) -> float:
    return pair[0]["value"] / pair[1]["value"]


def _lower_bounds(layers: Iterable[Placed]) -> list[Placed]:
    return [layer for layer in layers if layer["value"] > LOWER_BOUND_ABOVE]
