"""Answers about a history, each by one rule for tables, figures, reports and claims.

The trained network is the `last_of_fit`, because a test after the fit measures another data set.
It is compared with the `start`: the network `before_training` if that was measured.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from lightning_id.functional.law import LAW_NOTE
from lightning_id.history.records import (
    BEFORE_TRAINING,
    FIT,
    History,
    Placed,
    R,
    Record,
    Validation,
    has_value,
    in_order,
    of_first_set,
    validation_of,
)
from lightning_id.recording.layers import LAST_HIDDEN

# --- measurements --------------------------------------------------------------------------------


def last(history: History) -> Validation | None:
    """Return the last measurement of any stage."""
    return validation_of(history.records[-1]) if history.records else None


def last_of_fit(validations: Iterable[Validation]) -> Validation | None:
    """Return the last measurement of the fit, or the last of all if none is of a fit.

    Example:
        >>> history = History()
        >>> for stage, step in (("fit", 9), ("fit", 19), ("test", 20)):
        ...     history.append(stage=stage, epoch=0, step=step, layer="fc", estimator="twonn")
        >>> last_of_fit(history.validations())
        Validation(stage='fit', epoch=0, step=19)
    """
    found = list(validations)
    return next(reversed([v for v in found if v.stage == FIT] or found), None)


def before_training(history: History) -> Validation | None:
    """Return the first measurement before training of the data on which `last_of_fit` was made."""
    return _first_on_same_data(history, BEFORE_TRAINING)


def start(history: History) -> Validation | None:
    """Return the measurement that the trained network is compared with.

    It is that `before_training`, else the first of the fit on the same data; None if that is the
    `last_of_fit` itself.
    """
    found = before_training(history) or _first_on_same_data(history, FIT)
    return None if found == last_of_fit(history.validations()) else found


def _first_on_same_data(history: History, stage: str) -> Validation | None:
    trained = last_of_fit(history.validations())
    if trained is None:
        return None
    # The step first: it alone rules most records out.
    at_trained = (r for r in history.records if r["step"] == trained.step)
    data = {r["data"] for r in at_trained if validation_of(r) == trained}
    found = (r for r in history.records if r["stage"] == stage and r["data"] in data)
    return next(map(validation_of, found), None)


def course(validations: Iterable[Validation]) -> list[Validation]:
    """Return the measurements before and during the fit, or all if there is none of these."""
    found = list(validations)
    return [v for v in found if v.stage in (BEFORE_TRAINING, FIT)] or found


def has_several_per_epoch(validations: Iterable[Validation]) -> bool:
    """Return whether an epoch of the fit was measured more than once."""
    return any(n > 1 for n in Counter(v.epoch for v in validations if v.stage == FIT).values())


def describe(validation: tuple[str, int, int]) -> str:
    """Return the time of a measurement as text; epochs are counted from 1.

    Example:
        >>> describe(("fit", 0, 938)), describe(("test", 2, 1876)), describe(("validate", 0, 0))
        ('epoch 1, step 938', 'test after epoch 2, step 1876', 'validate')
    """
    stage, epoch, step = validation
    if stage == BEFORE_TRAINING:
        return "before training"
    if stage == FIT:  # Lightning counts the running epoch from 0; after a fit, the finished ones
        return f"epoch {epoch + 1}, step {step}"
    return f"{stage} after epoch {epoch}, step {step}" if step else stage


# --- estimators and records ----------------------------------------------------------------------


def breaks_law(record: Record) -> bool:
    """Return whether the neighbour ratios of a record do not follow the law of TwoNN."""
    return LAW_NOTE in (record["note"] or "")


def estimators(history: History) -> list[str]:
    """Return the names of the estimators, in the order of the records."""
    return list(dict.fromkeys(record["estimator"] for record in history.records))


def main_estimator(history: History) -> str:
    """Return the estimator to show first: TwoNN, unless only others were measured."""
    found = estimators(history)
    return "twonn" if "twonn" in found else next(iter(found), "twonn")


def by_validation(history: History, estimator: str) -> dict[Validation, list[Record]]:
    """Return the records of an estimator by measurement, in the order of execution.

    As `History.at` of every measurement, in one pass over the records.
    """
    found: dict[tuple[str, int, int], list[Record]] = {}
    for r in history.records:
        if r["estimator"] == estimator and r["label"] is None:
            found.setdefault((r["stage"], r["epoch"], r["step"]), []).append(r)
    return {Validation(*place): in_order(of_first_set(records)) for place, records in found.items()}


def profiles(history: History, estimator: str) -> dict[Validation, list[Placed]]:
    """Return the layers that have a value and a depth, by measurement, in the order of execution.

    Of a layer that was measured twice at one step the later record counts. Measurements without
    any such layer are left out.
    """
    found = by_validation(history, estimator).items()
    return {validation: layers for validation, records in found if (layers := _placed(records))}


def _placed(records: Iterable[Record]) -> list[Placed]:
    return list({record["layer"]: record for record in filter(_is_placed, records)}.values())


def _is_placed(record: Record) -> TypeGuard[Placed]:
    return has_value(record) and record["depth"] is not None


def profile(
    history: History, validation: Validation | None = None, estimator: str | None = None
) -> list[Placed]:
    """Return the layers of a measurement that have a value and a depth, in the order of execution.

    The measurement is by default the `last_of_fit`, the estimator the `main_estimator`.
    """
    measured = validation or last_of_fit(history.validations())
    return _placed(history.at(measured, estimator or main_estimator(history))) if measured else []


def last_hidden(records: Iterable[R]) -> R | None:
    """Return the record of the last hidden layer: the input of the last Linear."""
    return next((record for record in records if record["role"] == LAST_HIDDEN), None)


def metric_names(history: History) -> list[str]:
    """Return the names of the metrics logged by the user's code, in order."""
    return list(dict.fromkeys(metric["name"] for metric in history.metrics))


def metric_values(history: History, name: str) -> dict[Validation, float]:
    """Return the finite values of a metric by measurement."""
    return {
        validation_of(entry): entry["value"]
        for entry in history.metrics
        if entry["name"] == name and entry["value"] is not None and math.isfinite(entry["value"])
    }


def describe_samples(records: Sequence[Record]) -> str:
    """Return number and data set of the measured samples, for example ``"2000 samples of val"``."""
    counts = sorted({r["n_samples"] for r in records if r["n_samples"] is not None})
    if not counts:
        return ""
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    sets = ", ".join(dict.fromkeys(r["data"] for r in records if r["data"] is not None))
    return f"{number} samples of {sets}" if sets else f"{number} samples"
