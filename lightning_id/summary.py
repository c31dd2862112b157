"""What is said of a measurement: the logged keys and a table for the terminal."""

import math
import statistics
from collections.abc import Sequence

from lightning_id.layers import LAST_HIDDEN
from lightning_id.measurement import LayerResult


def log_keys(results: Sequence[LayerResult], prefix: str = "") -> dict[str, float]:
    """Return the numbers to log: every estimate, its error, and a summary of the TwoNN profile.

    ``id_<estimator>/<layer>`` and ``id_<estimator>_se/<layer>`` for every layer with a value; mean
    and deviation over the classes as ``id_<estimator>_per_class/<layer>`` and
    ``id_<estimator>_per_class_sd/<layer>``, where classes were measured; of TwoNN
    ``id/last_hidden`` (what the last Linear is given), ``id/peak`` (the largest), ``id/peak_depth``
    (its relative depth, in [0, 1]) and ``id/peak_over_last``.

    Args:
        results: One per layer.
        prefix: Put before every key.

    Returns:
        Finite numbers by key; what has no value has no key.
    """
    keys: dict[str, float] = {}
    for result in results:
        for name, estimate in result.estimates.items():
            keys[f"{prefix}id_{name}/{result.layer}"] = estimate.value
            keys[f"{prefix}id_{name}_se/{result.layer}"] = estimate.std_error
            classes = [each[name].value for each in result.per_class.values() if name in each]
            known = [value for value in classes if not math.isnan(value)]
            if known:
                key = f"{prefix}id_{name}_per_class"
                keys[f"{key}/{result.layer}"] = statistics.fmean(known)
                if len(known) > 1:
                    keys[f"{key}_sd/{result.layer}"] = statistics.stdev(known)
    profile = [
        (result.estimates["twonn"].value, result)
        for result in results
        if "twonn" in result.estimates and not math.isnan(result.estimates["twonn"].value)
    ]
    if profile:
        peak, at = max(profile, key=lambda pair: pair[0])
        last = [value for value, result in profile if result.role == LAST_HIDDEN]
        keys[f"{prefix}id/peak"] = peak
        keys[f"{prefix}id/peak_depth"] = math.nan if at.depth is None else at.depth
        keys[f"{prefix}id/last_hidden"] = last[0] if last else math.nan
        keys[f"{prefix}id/peak_over_last"] = peak / last[0] if last else math.nan
    return {key: value for key, value in keys.items() if math.isfinite(value)}


def plan_table(results: Sequence[LayerResult]) -> str:
    """Return what was matched, as text: name, relative depth and width of every layer, in order.

    Args:
        results: One per layer.

    Returns:
        One line per layer under a headline.
    """
    width = max((len(result.layer) for result in results), default=0)
    lines = [f"Intrinsic dimension is measured in {len(results)} layers:"]
    for result in results:
        depth = "never called" if result.depth is None else f"depth {result.depth:.2f}"
        features = result.ambient_dimension
        size = "" if features is None else f"{features} features"
        lines.append(f"  {result.layer:<{width}}  {depth}  {size}".rstrip())
    return "\n".join(lines)
