"""What is said of a measurement: the logged keys and a table for the terminal."""

import math
import statistics
from collections.abc import Mapping, Sequence

from lightning_id.callback.loggers import key_names
from lightning_id.recording.layers import LAST_HIDDEN
from lightning_id.recording.measurement import LayerResult


def metrics_of(results: Sequence[LayerResult], prefix: str = "") -> dict[str, float]:
    """Return the numbers to log: every estimate, its error, and a summary of the TwoNN profile.

    ``id_<estimator>/<layer>`` and ``id_<estimator>_se/<layer>`` for every layer with a value; mean
    and deviation over the classes as ``id_<estimator>_per_class/<layer>`` and
    ``id_<estimator>_per_class_sd/<layer>``, where classes were measured; of TwoNN
    ``id/last_hidden`` (what the last Linear is given) with its 95 % interval
    ``id/last_hidden_low`` and ``id/last_hidden_high``, ``id/peak`` (the largest), ``id/peak_depth``
    (its relative depth, in [0, 1]) and ``id/peak_over_last``. A layer is named in a key as every
    logger takes it: see `lightning_id.callback.loggers.key_names`.

    Args:
        results: One per layer.
        prefix: Put before every key.

    Returns:
        Finite numbers by key; what has no value has no key.
    """
    names = key_names([result.layer for result in results])
    keys: dict[str, float] = {}
    for result in results:
        layer = names[result.layer]
        for estimator, estimate in result.estimates.items():
            keys[f"id_{estimator}/{layer}"] = estimate.value
            keys[f"id_{estimator}_se/{layer}"] = estimate.std_error
            classes = [each[estimator].value for each in result.per_class.values()]
            known = [value for value in classes if not math.isnan(value)]
            if known:
                keys[f"id_{estimator}_per_class/{layer}"] = statistics.fmean(known)
            if len(known) > 1:
                keys[f"id_{estimator}_per_class_sd/{layer}"] = statistics.stdev(known)
    keys |= _summary(results)
    return {f"{prefix}{key}": value for key, value in keys.items() if math.isfinite(value)}


def _summary(results: Sequence[LayerResult]) -> dict[str, float]:
    """Return the keys on the TwoNN profile as a whole."""
    measured = [result for result in results if "twonn" in result.estimates]
    profile = [result for result in measured if not math.isnan(result.estimates["twonn"].value)]
    if not profile:
        return {}
    at = max(profile, key=lambda result: result.estimates["twonn"].value)
    peak = at.estimates["twonn"].value
    keys = {"id/peak": peak, "id/peak_depth": math.nan if at.depth is None else at.depth}
    for result in profile:
        if result.role == LAST_HIDDEN:
            last = result.estimates["twonn"]
            keys["id/last_hidden"] = last.value
            keys["id/last_hidden_low"], keys["id/last_hidden_high"] = last.low, last.high
            keys["id/peak_over_last"] = peak / last.value
    return keys


def plan_table(results: Sequence[LayerResult], data: str, nbytes: Mapping[str, int]) -> str:
    """Return the plan as text: name, relative depth and width of every layer, in order.

    Args:
        results: One per layer.
        data: Name of the measured set.
        nbytes: Bytes of the rows of all layers together, by the place where they are kept.

    Returns:
        A headline, one line per layer, and the memory that the rows take.
    """
    width = max((len(result.layer) for result in results), default=0)
    n_samples = max((e.n_samples for r in results for e in r.estimates.values()), default=0)
    many = f"{len(results)} layers, of {n_samples} samples of {data}"
    lines = [f"Intrinsic dimension is measured in {many}:"]
    for result in results:
        depth = "never called" if result.depth is None else f"depth {result.depth:.2f}"
        features = result.ambient_dimension
        size = "" if features is None else f"{features} features"
        lines.append(f"  {result.layer:<{width}}  {depth}  {size}".rstrip())
    for place, n in nbytes.items():
        where = "a temporary file" if place == "file" else f"{place} memory"
        lines.append(f"Their rows take {gib(n)} in {where}.")
    return "\n".join(lines)


def gib(nbytes: int) -> str:
    """Return a number of bytes as text in GiB.

    Example:
        >>> gib(5_800_000_000), gib(1_000_000)
        ('5.4 GiB', '0.00093 GiB')
    """
    size = nbytes / 2**30
    return f"{size:.2g} GiB" if size < 10 else f"{size:.0f} GiB"
