"""Estimates of layers whose rows did not change by a bit since the last measurement.

The input, at every validation, and frozen layers. The hash of all rows is computed only once that
of a few agrees: a layer that changes costs next to nothing, and one that does not is kept from the
third measurement on.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_id.functional.duplicates import row_hashes
from lightning_id.recording.results import Estimates

KEPT = "kept"  # in the column `computation` of a history
_FEW = 8  # rows


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of the rows of a layer on this rank."""

    kind: object  # shape and dtype of the rows, and the labels that their classes follow from
    few: Int[Tensor, " f"] | None = None  # of some rows; None without rows
    every: Int[Tensor, " r"] | None = None  # of all; None where the few show that rows changed

    @classmethod
    def of(
        cls, rows: Float[Tensor, "r d"] | None, labels: object, before: "Fingerprint | None"
    ) -> "Fingerprint":
        """Return the fingerprint, with the hashes of all rows only if they may equal ``before``."""
        if rows is None:
            return cls((None, labels))
        rows = rows if rows.element_size() > 1 else rows.float()  # float8 has no arithmetic
        kind = rows.shape, rows.dtype, labels
        few = row_hashes(rows[:: max(1, len(rows) // _FEW)])
        if before is None or before.kind != kind or not _equal(before.few, few):
            return cls(kind, few)
        return cls(kind, few, row_hashes(rows))

    def equals(self, before: "Fingerprint | None") -> bool:
        """Return whether the rows are known to be bit-identical."""
        if before is None or self.kind != before.kind:
            return False
        return self.few is None or _equal(self.every, before.every)


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.device != other.device:
        return False
    return torch.equal(one, other)


@dataclass(frozen=True)
class LayerEstimates:
    """The estimates of all rows of a layer and of its classes, which `as_kept` returns again."""

    fingerprint: Fingerprint
    all_rows: Estimates
    classes: dict[int, Estimates]

    def as_kept(self) -> "LayerEstimates":
        """Return the same estimates, marked as kept, without seconds."""
        classes = {label: _as_kept(found) for label, found in self.classes.items()}
        return replace(self, all_rows=_as_kept(self.all_rows), classes=classes)

    def has_all_of(self, estimators: Collection[str]) -> bool:
        """Return whether these are estimates of the same estimators."""
        return self.all_rows.values.keys() == set(estimators)

    @property
    def has_errors(self) -> bool:
        """Whether any estimator failed: it is tried again."""
        return any(found.errors for found in (self.all_rows, *self.classes.values()))


def _as_kept(found: Estimates) -> Estimates:
    values = {name: replace(each, computation=KEPT) for name, each in found.values.items()}
    return replace(found, values=values, seconds=dict.fromkeys(found.seconds, 0.0))
