"""Estimates of layers whose rows did not change by a bit since the last measurement.

The input, at every validation, and frozen layers. The hash of all rows is computed only once that
of a few agrees: a layer that changes costs next to nothing, and one that does not is kept from the
third measurement on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_id.functional import Estimate
from lightning_id.functional.duplicates import row_hashes
from lightning_id.functional.leading import Leading
from lightning_id.recording.results import Estimates

KEPT = "kept"  # in the column `computation` of a history
_FEW = 8  # rows


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
