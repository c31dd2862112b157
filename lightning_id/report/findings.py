"""Findings in plain words: one rule each, with its threshold.

Every rule reads the last measurement of the fit (`lightning_id.report.runs.trained`), and says what
is missing where it cannot tell. The layers are measured on the same samples, so their errors go
together and a difference is surer than its combined error bar says: the rules err on the side of
finding nothing.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from lightning_id.console import LOWER_BOUND_ABOVE, estimator_name, value_with_error
from lightning_id.figures.common import shortened
from lightning_id.functional.estimate import NORMAL_975
from lightning_id.functional.pca import rounding_noise
from lightning_id.history import (
    History,
    Record,
    estimators_of,
    has_value,
    main_estimator,
    validation_of,
)
from lightning_id.layers import LAST_HIDDEN
from lightning_id.report.runs import (
    Run,
    describe,
    first,
    profile,
    trained,
    untrained,
)

ERROR_BARS = NORMAL_975  # combined standard errors that a difference must exceed: the 95 % interval
PCA_FAR_ABOVE = 3.0  # times TwoNN
GAP = 2.0  # times the next eigenvalue
GAP_WITHIN = 0.5, 4.0  # times TwoNN: where the spectrum of a linear representation would fall
FLAT_WITHIN = 0.25  # of the median; the source work's untrained VGG-16 stays within 0.18
NARROW = 2.0  # a layer with fewer units than so many times the median has no room for the dimension
NAMES_SHOWN = 6  # of the layers in a list
NAME_LENGTH = 60  # letters of a name in a sentence


class Finding(NamedTuple):
    """What a rule found.

    Attributes:
        topic: What the rule is about, for example ``"Hunchback"``.
        text: What it found, a sentence.
    """

    topic: str
    text: str


def findings(history: History) -> list[Finding]:
    """Apply all rules to a run.

    Args:
        history: What was measured.

    Returns:
        What they found, in the order of `RULES`.
    """
    if not history.records:
        return [Finding("Nothing", "Nothing was measured: the history has no records.")]
    found = [(topic, rule(history)) for topic, rule in RULES.items()]
    return [Finding(topic, text) for topic, text in found if text is not None]


def hunchback(history: History) -> str:
    """Tell whether the dimension peaks inside the network, above both ends by the error bars.

    Args:
        history: What was measured.

    Returns:
        A sentence with the peak and the ends.
    """
    layers = _last_profile(history)
    if len(layers) < 3:
        return f"Not told: it takes three layers with a dimension, this profile has {len(layers)}."
    start, *interior, end = layers
    top = max(interior, key=_value)
    shape = f"{_at(start)}, {_at(top)}, {_at(end)}"
    lower = [layer for layer in (start, end) if not _is_clearly_above(top, layer)]
    if not lower:
        return f"Yes. From the first layer through the peak to the last: {shape}."
    if any(math.isnan(_error(layer)) for layer in (top, *lower)):
        return f"Not told, for want of error bars: {shape}."
    names = " and ".join(_short(layer["layer"]) for layer in lower)
    return (
        f"No. The highest layer between the ends is not above {names}"
        f" by more than the combined error bars: {shape}."
    )


def peak(history: History) -> str | None:
    """Tell where the largest dimension is, and how large.

    Args:
        history: What was measured.

    Returns:
        A sentence; None where no layer has a dimension.
    """
    layers = _last_profile(history)
    if not layers:
        return None
    top = max(layers, key=_value)
    width = "" if top["ambient_dimension"] is None else f", of {top['ambient_dimension']} units"
    return f"{_at(top)}, at relative depth {top['depth']:.2f}{width}."


def last_hidden(history: History) -> str | None:
    """Tell whether the dimension of the last hidden layer changed by more than the error bars.

    Args:
        history: What was measured.

    Returns:
        A sentence; None where the last hidden layer has no dimension.
    """
    start, end = first(history), trained(history)
    now = _with_role(profile(history, end, main_estimator(history)))
    if now is None or end is None:
        return None
    then = _with_role(profile(history, start, main_estimator(history)))
    if then is None or start is None:
        return f"{_at(now)}. There is no earlier value to compare it with."
    if then["n_samples"] != now["n_samples"]:
        return (
            f"{_at(now)}. It is not compared with the start: {then['n_samples']} samples were"
            f" measured then and {now['n_samples']} now, and the dimension depends on that."
        )
    values = (
        f"at {_short(now['layer'])}: {value_with_error(then)} ({describe(start)}),"
        f" {value_with_error(now)} ({describe(end)})"
    )
    if _is_clearly_above(then, now):
        return f"Fell by {_percent(1 - _value(now) / _value(then))} {values}."
    if _is_clearly_above(now, then):
        return f"Rose by {_percent(_value(now) / _value(then) - 1)} {values}."
    return f"No change beyond the combined error bars {values}."


def linear_above_nonlinear(history: History) -> str | None:
    """Tell where PCA needs many times the dimensions that TwoNN finds.

    Args:
        history: What was measured.

    Returns:
        A sentence; None where no layer has both.
    """
    pairs = _beside_twonn(history, "pca")
    if not pairs:
        return None
    ratios = {r["layer"]: _value(components) / _value(r) for components, r in pairs}
    components, most = max(pairs, key=lambda pair: ratios[pair[1]["layer"]])
    largest = (
        f"{_short(most['layer'])}: {_value(components):g} components against"
        f" {value_with_error(most)}, ratio {ratios[most['layer']]:.1f}"
    )
    far = [layer for layer, ratio in ratios.items() if ratio >= PCA_FAR_ABOVE]
    if not far:
        return f"In no layer {PCA_FAR_ABOVE:g} times TwoNN or more; the most in {largest}."
    is_bound = bool(_too_high(r for _, r in pairs))
    bound = "; where TwoNN is a lower bound, the ratio is an upper one" if is_bound else ""
    return (
        f"At least {PCA_FAR_ABOVE:g} times TwoNN in {len(far)} of {len(ratios)} layers"
        f" ({_names(far)}): there the representation is curved. Most in {largest}{bound}."
    )


def gaussian_above_nonlinear(history: History) -> str | None:
    """Tell where Gaussian rows of the same covariance have a higher TwoNN than the representation.

    Args:
        history: What was measured.

    Returns:
        A sentence; None where no layer has both.
    """
    pairs = _beside_twonn(history, "twonn_gaussian")
    if not pairs:
        return None
    above = [r["layer"] for control, r in pairs if _is_clearly_above(control, r)]
    where = f" ({_names(above)})" if above else ""
    control, most = max(pairs, key=lambda pair: _value(pair[0]) / _value(pair[1]))
    return (
        "TwoNN of Gaussian rows of the same covariance is above that of the layer, by more than the"
        f" combined error bars, in {len(above)} of {len(pairs)} layers{where}. Most in"
        f" {_short(most['layer'])}: {value_with_error(control)} against"
        f" {value_with_error(most)}, ratio {_value(control) / _value(most):.1f}."
    )


def gap_in_spectrum(history: History) -> str | None:
    """Tell where the eigenvalues of the covariance fall at once near the TwoNN dimension.

    Were the representation linear, it would be the number of eigenvalues before the fall.

    Args:
        history: What was measured, with spectra.

    Returns:
        A sentence; None where no layer has both.
    """
    last = trained(history)
    layers = {r["layer"]: r for r in profile(history, last, "twonn")}
    spectra = {} if last is None else history.spectra.get(last, {})
    falls = {
        layer: fall
        for layer, eigenvalues in spectra.items()
        if layer in layers and (fall := _largest_fall(eigenvalues, layers[layer])) is not None
    }
    if not falls:
        return None
    steepest = max(falls, key=lambda layer: falls[layer])
    ratio, place = falls[steepest]
    gaps = [layer for layer in falls if falls[layer][0] >= GAP]
    answer = f"A gap in {len(gaps)}" if gaps else "No gap in any"
    where = f" ({_names(gaps)})" if gaps else ""
    low, high = GAP_WITHIN
    return (
        f"{answer} of {len(falls)} layers{where}: an eigenvalue of at least {GAP:g} times the next,"
        f" at {low:g} to {high:g} times TwoNN. The steepest fall is {ratio:.2f} times, after"
        f" eigenvalue {place} of {_short(steepest)}."
    )


def _largest_fall(eigenvalues: Tensor, layer: Record) -> tuple[float, int] | None:
    """Return the largest ratio of an eigenvalue near the dimension to the next, and its place."""
    values = eigenvalues.double()[: layer["n_samples"] - 1]  # centred rows span one dimension less
    low, high = (round(times * _value(layer)) for times in GAP_WITHIN)
    start = max(low, 1)
    if not start < len(values) or not values[0] > 0:
        return None
    values = values.clamp_min(rounding_noise(values, layer["n_samples"]))
    ratios = (values[:-1] / values[1:])[start - 1 : max(high, start)]
    return float(ratios.max()), start + int(ratios.argmax())


def untrained_profile(history: History) -> str:
    """Tell whether the profile of the untrained network is flat: all layers near the median.

    Layers too narrow for the dimension, such as ten outputs, are left out.

    Args:
        history: What was measured.

    Returns:
        A sentence.
    """
    before = untrained(history)
    if before is None:
        return "Not measured; Trainer(num_sanity_val_steps=-1), or `profile --both`, measures it."
    layers = profile(history, before, main_estimator(history))
    if not layers:
        return "Measured, but no layer has a dimension."
    median = statistics.median(_value(layer) for layer in layers)
    wide = [r for r in layers if (r["ambient_dimension"] or math.inf) >= NARROW * median]
    if len(wide) < 2:
        return f"Not told: it takes two layers wide enough, this profile has {len(wide)}."
    median = statistics.median(_value(layer) for layer in wide)
    if median <= 0:
        return "Not told: the median of the layers is 0."
    farthest = max(wide, key=lambda layer: abs(_value(layer) - median))
    away = _value(farthest) / median - 1
    narrow = [layer["layer"] for layer in layers if layer not in wide]
    without = f" Without {_names(narrow)}, too narrow for it." if narrow else ""
    return (
        f"{'Flat' if abs(away) <= FLAT_WITHIN else 'Not flat'}. The layer farthest from the median"
        f" of {median:.2f} is {_short(farthest['layer'])}, {_percent(abs(away))}"
        f" {'above' if away > 0 else 'below'} it; up to {_percent(FLAT_WITHIN)} counts as flat."
        f"{without}"
    )


def not_estimated(history: History) -> str | None:
    """Tell which layers have no dimension, and why.

    Args:
        history: What was measured.

    Returns:
        A sentence for each reason.
    """
    last = trained(history)
    whole = [record for record in history.records if record["label"] is None]
    missing = [record for record in whole if not has_value(record)]
    now = [r for r in missing if validation_of(r) == last]
    reasons: dict[tuple[str, str], list[str]] = {}
    for record in now:
        reason = (record["reason"] or "no reason is recorded").removesuffix(".")
        reasons.setdefault((record["estimator"], reason), []).append(record["layer"])
    texts = [
        f"{estimator_name(estimator)} in {_names(layers)}: {reason}."
        for (estimator, reason), layers in reasons.items()
    ]
    if len(missing) > len(now):
        texts.append(f"{len(missing) - len(now)} values of other measurements are missing too.")
    return " ".join(texts) or None


def lower_bounds(history: History) -> str | None:
    """Tell which TwoNN values are too high to be more than lower bounds.

    Args:
        history: What was measured.

    Returns:
        A sentence; None where there are none.
    """
    layers = _too_high(profile(history, trained(history), "twonn"))
    if not layers:
        return None
    values = [_at(layer) for layer in layers[:NAMES_SHOWN]]
    return (
        f"Above about {LOWER_BOUND_ABOVE} TwoNN is a lower bound: {_listed(values, len(layers))}."
        " The true dimension is at least that."
    )


def notes(history: History) -> str | None:
    """Repeat what the estimators noted about numbers that are valid otherwise.

    Args:
        history: What was measured.

    Returns:
        A sentence for each note; None where there is none.
    """
    by_note: dict[str, dict[str, None]] = {}
    last = trained(history)
    for estimator in estimators_of(history):
        for record in [] if last is None else history.at(last, estimator):
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


def not_comparable(runs: Sequence[Run]) -> Finding | None:
    """Tell in what the runs differ that the dimension depends on.

    Args:
        runs: The runs that are laid over each other.

    Returns:
        What differs, with the values of each run; None where nothing does.
    """
    parts = []
    for column in ("estimator", "n_samples", "data", "reduce"):
        values = {
            run.name: sorted({str(r[column]) for r in _last_profile(run.history)} - {"None"})
            for run in runs
        }
        if len({tuple(each) for each in values.values() if each}) > 1:
            each = [f"{', '.join(found)} in {name}" for name, found in values.items() if found]
            parts.append(f"{column} is {'; '.join(each)}.")
    if not parts:
        return None
    parts.append("The dimension depends on that: a difference of the runs may come from it.")
    return Finding("Not alike", " ".join(parts))


def _last_profile(history: History) -> list[Record]:
    return profile(history, trained(history), main_estimator(history))


def _beside_twonn(history: History, estimator: str) -> list[tuple[Record, Record]]:
    """Return the records of an estimator, each with TwoNN of its layer, where both are known."""
    last = trained(history)
    others = {r["layer"]: r for r in profile(history, last, estimator)}
    curved = [r for r in profile(history, last, "twonn") if _value(r) > 0]
    return [(others[r["layer"]], r) for r in curved if r["layer"] in others]


def _with_role(layers: Iterable[Record]) -> Record | None:
    return next((layer for layer in layers if layer["role"] == LAST_HIDDEN), None)


def _too_high(layers: Iterable[Record]) -> list[Record]:
    return [layer for layer in layers if _value(layer) > LOWER_BOUND_ABOVE]


def _is_clearly_above(high: Record, low: Record) -> bool:
    """Compare by the combined error bars; without one (NaN) nothing is clear."""
    return _value(high) - _value(low) > ERROR_BARS * math.hypot(_error(high), _error(low))


def _value(record: Record) -> float:
    return float(record["value"])


def _error(record: Record) -> float:
    return math.nan if record["std_error"] is None else float(record["std_error"])


def _at(record: Record) -> str:
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
