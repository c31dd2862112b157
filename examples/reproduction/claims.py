"""Claims about experiments: published numbers, the same numbers measured, rules that judge.

Numbers are compared by name. Published and measured ones go through the same function, so that a
ratio is the same on both sides. The text of a rule is made from its limits.
"""

import csv
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_id.history import History, Placed, Validation
from lightning_id.history.queries import before_training, profile

Numbers = dict[str, float]
Limit = tuple[str, str, float | str]  # a number, one of `_SIGNS`, a number or the name of one

REPRODUCED, IN_SHAPE, FAILED, NOT_RUN = (
    "reproduced",
    "reproduced in shape",
    "not reproduced",
    "not run here",
)
VERDICTS = {
    REPRODUCED: "the rule holds, and each published number is met within the tolerance.",
    IN_SHAPE: "the rule holds; the numbers differ by more, or are of another network, or none was"
    " published.",
    FAILED: "the rule does not hold.",
    NOT_RUN: "there is no run, for the reason given.",
}
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Run:
    """The folder of a run (`version_0`) with its history, and that on training images if any."""

    folder: Path
    history: History
    train: History | None

    @classmethod
    def load(cls, folder: Path) -> "Run":
        """Read the history.csv of a folder, and that of its subfolder `train`."""
        train = folder / "train"
        return cls(folder, History.load(folder), History.load(train) if train.is_dir() else None)

    def on_train(self) -> History:
        """Return the history on the training images, or raise LookupError without one."""
        if self.train is None:
            raise LookupError(f"nothing was measured on training images in {self.folder.name}")
        return self.train

    def metric(self, name: str) -> float:
        """Return the last value in the metrics.csv of the run, or raise LookupError without one."""
        metrics = self.folder.parent / "csv" / self.folder.name / "metrics.csv"
        values = []
        if metrics.is_file():
            with metrics.open(newline="", encoding="utf-8") as file:
                values = [row[name] for row in csv.DictReader(file) if row.get(name)]
        if not values:
            raise LookupError(f"no {name} was logged")
        return float(values[-1])


def at_start(history: History, estimator: str = "twonn") -> Numbers:
    """Return the dimensions by layer before training, or raise LookupError without them."""
    before = before_training(history)
    if before is None:
        raise LookupError("nothing was measured before training")
    return _dimensions(history, before, estimator)


def at_end(history: History, estimator: str = "twonn") -> Numbers:
    """Return the dimensions by layer of the trained network, or raise LookupError without them."""
    return _dimensions(history, None, estimator)


def _dimensions(history: History, validation: Validation | None, estimator: str) -> Numbers:
    layers = profile(history, validation, estimator)
    if not layers:
        raise LookupError(f"no {estimator} dimension was measured")
    return by_layer(layers)


def at_step(history: History, step: int) -> Numbers:
    """Return the TwoNN dimensions by layer after training steps, or raise LookupError."""
    steps = {validation.step: validation for validation in history.validations()}
    if step not in steps:
        raise LookupError(f"nothing was measured at step {step}; the last step is {max(steps)}")
    return _dimensions(history, steps[step], "twonn")


def by_layer(records: Iterable[Placed]) -> Numbers:
    """Return the values of a profile by the name of the layer."""
    return {record["layer"]: record["value"] for record in records}


@dataclass(frozen=True)
class Claim:
    """One claim of the paper: a sentence, its place, its published numbers and its rule."""

    text: str
    where: str
    published: Numbers
    limits: tuple[Limit, ...] = ()  # of the measured numbers; broken, the claim is not reproduced
    needs: tuple[str, ...] = ()  # experiments, whose runs `measure` is given in this order
    measure: Callable[..., Numbers] = lambda *_: {}
    tolerance: float = 0.15  # relative, of a measured number from the published one
    is_same_network: bool = True  # else the published numbers are shown, and not compared
    obstacle: str = ""  # the reason why the claim is not measured here
    form: str = ".2f"

    def rule(self) -> str:
        """Return limits and tolerance as text."""
        parts = []
        for name, sign, limit in self.limits:
            shown = limit if isinstance(limit, str) else format(limit, self.form)
            parts.append(f"{name} {sign} {shown}")
        if self.limits and self.published and self.is_same_network:
            parts.append(f"published within {self.tolerance:.0%}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Judgement:
    """A claim, its measured numbers, one of `VERDICTS`, and the reason if it was not run."""

    claim: Claim
    measured: Numbers
    verdict: str
    reason: str = ""


def judge(claim: Claim, runs: Mapping[str, Run]) -> Judgement:
    """Measure a claim on the runs by name of their experiment, and judge it by its rule."""
    absent = [name for name in claim.needs if name not in runs]
    if claim.obstacle or absent:
        reason = claim.obstacle or f"no finished run of {', '.join(absent)}"
        return Judgement(claim, {}, NOT_RUN, reason)
    try:
        measured = claim.measure(*(runs[name] for name in claim.needs))
    except KeyError as error:  # a layer without a number
        return Judgement(claim, {}, NOT_RUN, f"no number of {error.args[0]}")
    except LookupError as error:  # a shortened run may lack the measurement
        return Judgement(claim, {}, NOT_RUN, str(error))
    if not all(_is_kept(limit, measured) for limit in claim.limits):
        return Judgement(claim, measured, FAILED)
    close = [
        abs(measured.get(name, math.nan) - value) <= claim.tolerance * abs(value)
        for name, value in claim.published.items()
        if claim.is_same_network
    ]
    return Judgement(claim, measured, REPRODUCED if close and all(close) else IN_SHAPE)


def _is_kept(limit: Limit, numbers: Numbers) -> bool:
    name, sign, bound = limit
    value = numbers[bound] if isinstance(bound, str) else bound
    return _SIGNS[sign](numbers[name], value)
