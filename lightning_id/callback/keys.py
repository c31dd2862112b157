"""Metrics logged for one measurement."""

import math
import statistics
from collections.abc import Sequence

from lightning_id.callback.loggers import key_names
from lightning_id.recording.layers import LAST_HIDDEN
from lightning_id.recording.results import LayerResult


def metrics_of(results: Sequence[LayerResult], prefix: str = "") -> dict[str, float]:
    """Return the metrics of a measurement: every estimate, its error, and a summary of TwoNN.

    ``id_<estimator>/<layer>`` and ``id_<estimator>_se/<layer>`` for every layer with a value; from
    the second measurement on the change from the first one on the same samples,
    ``id_<estimator>_change/<layer>``, with its paired error ``id_<estimator>_change_se/<layer>``,
    for estimators with an error bar; where
    classes were measured, mean and standard deviation over them as
    ``id_<estimator>_per_class/<layer>`` and ``id_<estimator>_per_class_sd/<layer>``. For TwoNN
    ``id/last_hidden`` (the input of the last Linear) with its 95 % interval ``id/last_hidden_low``
    and ``id/last_hidden_high``, ``id/peak`` (the largest value), ``id/peak_high`` (ESS
    of that layer, where it is measured), ``id/peak_depth`` (its relative depth, in [0, 1]) and
    ``id/peak_over_last``. `lightning_id.callback.loggers.key_names` makes the
    names of the layers.

    Args:
        results: One per layer.
        prefix: The beginning of every key.

    Returns:
        Finite numbers by key; a value that is missing has no key.
    """
    names = key_names([result.layer for result in results])
    metrics: dict[str, float] = {}
    for result in results:
        layer = names[result.layer]
        for estimator, estimate in result.estimates.items():
            metrics[f"id_{estimator}/{layer}"] = estimate.value
            metrics[f"id_{estimator}_se/{layer}"] = estimate.std_error
            if estimator in result.changes:
                change = result.changes[estimator].from_first
                metrics[f"id_{estimator}_change/{layer}"] = change.value
                metrics[f"id_{estimator}_change_se/{layer}"] = change.std_error
            classes = [each[estimator].value for each in result.per_class.values()]
            known = [value for value in classes if not math.isnan(value)]
            if known:
                metrics[f"id_{estimator}_per_class/{layer}"] = statistics.fmean(known)
            if len(known) > 1:
                metrics[f"id_{estimator}_per_class_sd/{layer}"] = statistics.stdev(known)
    metrics |= _summary(results)
    return {f"{prefix}{key}": value for key, value in metrics.items() if math.isfinite(value)}


def _summary(results: Sequence[LayerResult]) -> dict[str, float]:
    """Return the metrics of the whole TwoNN profile."""
    measured = [(r.estimates["twonn"], r) for r in results if "twonn" in r.estimates]
    profile = [(estimate, r) for estimate, r in measured if not math.isnan(estimate.value)]
    if not profile:
        return {}
    peak, at = max(profile, key=lambda pair: pair[0].value)
    metrics = {"id/peak": peak.value, "id/peak_depth": math.nan if at.depth is None else at.depth}
    if "ess" in at.estimates:
        metrics["id/peak_high"] = at.estimates["ess"].value
    for last, result in profile:
        if result.role == LAST_HIDDEN:
            metrics["id/last_hidden"] = last.value
            metrics["id/last_hidden_low"], metrics["id/last_hidden_high"] = last.low, last.high
            metrics["id/peak_over_last"] = peak.value / last.value
    return metrics
