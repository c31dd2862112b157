"""The estimates of one layer: the run of the estimators on its rows, and those that are kept.

Layers whose rows did not change by a bit since the last measurement keep their estimates: the
input, at every validation, and frozen layers. The hash of all rows is computed only once that of a
few agrees: a layer that changes costs next to nothing, and one that does not is kept from the third
measurement on.
"""

import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_id.functional import Change, Estimate, Geometry
from lightning_id.functional.duplicates import row_hashes
from lightning_id.functional.eigenvalues import LaterSpectrum
from lightning_id.functional.leading import Leading
from lightning_id.functional.ratios import CoarseFeaturesWarning
from lightning_id.functional.registry import Estimator, estimator_spec
from lightning_id.recording.processes import Processes

KEPT = "kept"  # in the column `computation` of a history
_FEW = 8  # rows


@dataclass(kw_only=True)
class Estimates:
    """The results of all estimators on some rows, by the name of the estimator."""

    estimates: dict[str, Estimate] = field(default_factory=dict)  # one that failed has a reason
    per_class: dict[int, dict[str, Estimate]] = field(default_factory=dict)  # by label first
    errors: dict[str, Exception] = field(default_factory=dict)  # of classes too, as seconds
    seconds: dict[str, float] = field(default_factory=dict)  # shared work counts for the first
    spectrum: Float[Tensor, " r"] | LaterSpectrum | None = None  # if an estimator needed it
    is_aborted: bool = False  # no estimator can use the rows, or a rank is out of reach

    def add_class(self, label: int, found: "Estimates") -> None:
        """Take over the estimates from the rows of a class."""
        self.per_class[label] = found.estimates
        self.errors |= found.errors
        for name, seconds in found.seconds.items():
            self.seconds[name] += seconds
        self.is_aborted = found.is_aborted


class Changes(NamedTuple):
    """Changes of an estimate on the same samples, with their paired error bars."""

    from_first: Change
    from_previous: Change
    from_lowest: Change

    def columns(self) -> dict[str, float]:
        """Return the columns of a history."""
        columns: dict[str, float] = {}
        names = "change", "change_previous", "change_lowest"
        for name, change in zip(names, self, strict=True):
            columns |= {name: change.value, f"{name}_std_error": change.std_error}
        return columns


@dataclass
class LayerResult(Estimates):
    """The estimates of one layer, and caveats about its rows."""

    layer: str
    role: str | None  # "input" or "last_hidden"
    order: int  # of execution
    depth: float | None  # relative; None if the layer was never called
    ambient_dimension: int | None  # features of a row; None if nothing was recorded
    notes: list[str] = field(default_factory=list)  # on the rows of this layer
    batch_notes: list[str] = field(default_factory=list)  # the same for all layers they concern
    rule_notes: list[str] = field(default_factory=list)  # of `rows_per_sample`: no remarks
    padding_notes: list[str] = field(default_factory=list)  # on masks: no remarks
    changes: dict[str, Changes] = field(default_factory=dict)  # since earlier measurements

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the columns of a history for each estimator, then for each class and estimator."""
        names = "layer", "role", "order", "depth", "ambient_dimension"
        layer = {name: getattr(self, name) for name in names}
        for name, estimate in self.estimates.items():
            notes = [*self.batch_notes, *self.rule_notes, *self.padding_notes, *self.notes]
            notes += [estimate.note] if estimate.note else []
            fields = estimate.to_dict() | {"note": "; ".join(notes) or None}
            if name in self.changes:
                fields |= self.changes[name].columns()
            yield {**layer, "estimator": name, "seconds": self.seconds.get(name), **fields}
        for label, estimates in self.per_class.items():
            for name, estimate in estimates.items():
                yield {**layer, "label": str(label), "estimator": name, **estimate.to_dict()}

    def remarks(self) -> Iterator[str]:
        """Yield notes of estimators, why there is no estimate, each reason once, and notes."""
        for name, estimate in self.estimates.items():
            if estimate.reason is None and estimate.note is not None:
                yield f"{name} dimension: {estimate.note}"
        for reason in dict.fromkeys(e.reason for e in self.estimates.values() if e.reason):
            names = [name for name, e in self.estimates.items() if e.reason == reason]
            yield f"no {' or '.join(names)} dimension: {reason}"
        yield from self.notes


def run_estimators(
    rows: Float[Tensor, "n d"],
    estimators: Mapping[str, Estimator],
    processes: Processes,
    leading: Leading | None = None,
) -> Estimates:
    """Estimate from the rows of all ranks; an estimator that fails does not stop the others."""
    if leading is not None and any(estimator_spec(name).needs_spectrum for name in estimators):
        leading.needs_all = True
    found = Estimates()
    geometry: Geometry | None = None
    for name, estimator in estimators.items():
        start = time.perf_counter()
        try:
            if geometry is None:
                geometry = processes.geometry(rows)
                geometry.leading = leading
            outcome = processes.estimate(partial(_run_estimator, name, estimator), geometry)
        except Exception as error:
            left = [each for each in estimators if each not in found.estimates]
            _add_failure(found, left, error, len(rows))
            found.is_aborted = True
            return found
        finally:
            found.seconds[name] = time.perf_counter() - start
        if isinstance(outcome, Exception):
            _add_failure(found, [name], outcome, len(rows))
            geometry = None  # its intermediate results may differ between ranks
        else:
            found.estimates[name] = outcome
            if geometry.known_spectrum is not None:
                found.spectrum = geometry.known_spectrum
            elif leading is not None:
                found.spectrum = leading.spectrum
    return found


def _add_failure(found: Estimates, names: list[str], error: Exception, n_samples: int) -> None:
    # The frames of an error hold tensors, and the next estimator needs the memory.
    traceback.clear_frames(error.__traceback__)
    found.errors |= dict.fromkeys(names, error)
    found.estimates |= dict.fromkeys(names, Estimate(reason=repr(error), n_samples=n_samples))


def _run_estimator(name: str, estimator: Callable[[Geometry], Any], geometry: Geometry) -> Estimate:
    """Return the estimate, checked; raise TypeError if it is none."""
    with warnings.catch_warnings():
        # The callback emits this warning itself, with the name of the layer.
        warnings.simplefilter("ignore", CoarseFeaturesWarning)
        estimate = estimator(geometry)
    if not isinstance(estimate, Estimate):
        raise TypeError(
            f"expected an Estimate of {name}, got {type(estimate).__name__}; return"
            " dataclasses.replace(geometry.estimate(distinct=False), value=...)"
        )
    if estimate.reason is None and not math.isfinite(estimate.value):
        return replace(estimate, reason=f"{name} gave {estimate.value} and no reason")
    return estimate


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of the rows of a layer on this rank."""

    kind: object  # shape and dtype of the rows, and the labels that their classes follow from
    few: Int[Tensor, " f"] | None = None  # of some rows, on the CPU; None without rows
    every: Int[Tensor, " r"] | None = None  # of all; None where the few show that rows changed

    @classmethod
    def of(
        cls,
        rows: Float[Tensor, "r d"] | None,
        few: Int[Tensor, " f"] | None,
        labels: object,
        before: "Fingerprint | None",
    ) -> "Fingerprint":
        """Return the fingerprint, with the hashes of all rows only if they may equal ``before``."""
        if rows is None:
            return cls((None, labels))
        kind = rows.shape, rows.dtype, labels
        if before is None or before.kind != kind or not _equal(before.few, few):
            return cls(kind, few)
        return cls(kind, few, _hashes(rows))

    def equals(self, before: "Fingerprint | None") -> bool:
        """Return whether the rows are known to be bit-identical."""
        if before is None or self.kind != before.kind:
            return False
        return self.few is None or _equal(self.every, before.every)


def hashes_of_few(
    layers: Iterable[tuple[str, Float[Tensor, "_ _"] | None]],
) -> dict[str, Int[Tensor, " _"]]:
    """Return the hashes of some rows of every layer: one synchronisation for each device."""
    hashed = {n: _hashes(x[:: max(1, len(x) // _FEW)]) for n, x in layers if x is not None}
    found: dict[str, Tensor] = {}
    for device in {each.device for each in hashed.values()}:
        here = {name: each for name, each in hashed.items() if each.device == device}
        joined = torch.cat(list(here.values())).cpu()
        found |= zip(here, torch.split(joined, [len(each) for each in here.values()]), strict=True)
    return found


def _hashes(rows: Float[Tensor, "r d"]) -> Int[Tensor, " r"]:
    # float8 has no arithmetic.
    return row_hashes(rows if rows.element_size() > 1 else rows.float())


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.device != other.device:
        return False
    return torch.equal(one, other)


class LayerEstimates(NamedTuple):
    """The estimates of a layer, for the next measurement."""

    fingerprint: Fingerprint
    found: Estimates
    leading: Leading  # with which the next counts begin; its vectors are r x m, m <= r / 4


def as_kept(found: Estimates) -> Estimates:
    """Return the same estimates, marked as kept, without seconds."""
    per_class = {label: _marked(estimates) for label, estimates in found.per_class.items()}
    seconds = dict.fromkeys(found.seconds, 0.0)
    return replace(found, estimates=_marked(found.estimates), per_class=per_class, seconds=seconds)


def _marked(estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {name: replace(each, computation=KEPT) for name, each in estimates.items()}
