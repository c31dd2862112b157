"""Claims about experiments: published numbers, the same numbers measured, rules that judge.

A claim compares numbers by name. What the source work published and what a run measured go through
the same function, so that a ratio is the same ratio on both sides. The limits that its shape must
keep are data, too: the words of the rule are made from them.
"""

import csv
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_id.history import BEFORE_TRAINING, History, Validation, has_value

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
    """What an experiment left in its folder.

    Attributes:
        folder: The folder of the run, `version_0` for example.
        history: What was measured on the test images.
        train: What was measured on the training images beside them, if it was.
    """

    folder: Path
    history: History
    train: History | None

    @classmethod
    def load(cls, folder: Path) -> "Run":
        """Read the folder of a run.

        Args:
            folder: Where its history.csv is; one on training images is in the folder `train` of it.

        Returns:
            The run.
        """
        train = folder / "train"
        return cls(folder, History.load(folder), History.load(train) if train.is_dir() else None)

    def on_train(self) -> History:
        """Return what was measured on the training images.

        Raises:
            LookupError: If nothing was.
        """
        if self.train is None:
            raise LookupError(f"nothing was measured on training images in {self.folder.name}")
        return self.train

    def metric(self, name: str) -> float:
        """Return the last value of a metric in the metrics.csv of the run.

        Args:
            name: For example `val_acc`.

        Returns:
            The value.

        Raises:
            LookupError: If it was never logged.
        """
        metrics = self.folder.parent / "csv" / self.folder.name / "metrics.csv"
        values = []
        if metrics.is_file():
            with metrics.open(newline="", encoding="utf-8") as file:
                values = [row[name] for row in csv.DictReader(file) if row.get(name)]
        if not values:
            raise LookupError(f"no {name} was logged")
        return float(values[-1])


def profile(history: History, validation: Validation, estimator: str = "twonn") -> Numbers:
    """Return a dimension by layer, in the order of execution.

    Args:
        history: What was measured.
        validation: Stage, epoch and step; `history.validations()` has them.
        estimator: Which dimension.

    Returns:
        The layers that have an estimate.
    """
    return {r["layer"]: r["value"] for r in history.at(validation, estimator) if has_value(r)}


def at_start(history: History, estimator: str = "twonn") -> Numbers:
    """Return the profile of the network before training.

    Args:
        history: What was measured.
        estimator: Which dimension.

    Returns:
        The profile.

    Raises:
        LookupError: If nothing was measured before training.
    """
    for validation in history.validations():
        if validation[0] == BEFORE_TRAINING:
            return profile(history, validation, estimator)
    raise LookupError("nothing was measured before training")


def at_end(history: History, estimator: str = "twonn") -> Numbers:
    """Return the profile of the last measurement."""
    return profile(history, history.validations()[-1], estimator)


def at_step(history: History, step: int) -> Numbers:
    """Return the profile after a number of training steps.

    Args:
        history: What was measured.
        step: Number of steps.

    Returns:
        The profile.

    Raises:
        LookupError: If nothing was measured there.
    """
    steps = {v[2]: v for v in history.validations()}
    if step not in steps:
        raise LookupError(f"nothing was measured at step {step}; the last step is {max(steps)}")
    return profile(history, steps[step])


@dataclass(frozen=True)
class Claim:
    """One claim of the source work.

    Attributes:
        says: It, in a sentence.
        where: Where in the source work it is.
        published: The published numbers by name; empty if there are none.
        limits: What the measured numbers must keep for the shape to be reproduced.
        needs: Names of the experiments whose runs it is measured on.
        measure: From the runs by name to the measured numbers.
        tolerance: How far, relatively, a measured number may be from the published one.
        is_same_network: Whether the published numbers are of this network and these data; else they
            are shown, and not compared.
        obstacle: Why it is not measured here, if it is not.
        form: How its numbers are written.
    """

    says: str
    where: str
    published: Numbers
    limits: tuple[Limit, ...] = ()
    needs: tuple[str, ...] = ()
    measure: Callable[[Mapping[str, Run]], Numbers] = lambda _: {}
    tolerance: float = 0.15
    is_same_network: bool = True
    obstacle: str = ""
    form: str = ".2f"

    def rule(self) -> str:
        """Return limits and tolerance in words."""
        words = []
        for name, sign, limit in self.limits:
            shown = limit if isinstance(limit, str) else format(limit, self.form)
            words.append(f"{name} {sign} {shown}")
        if self.limits and self.published and self.is_same_network:
            words.append(f"published within {self.tolerance:.0%}")
        return "; ".join(words)


@dataclass(frozen=True)
class Judgement:
    """What became of a claim.

    Attributes:
        claim: It.
        measured: The measured numbers; empty if it was not run.
        verdict: One of `VERDICTS`.
        reason: Why it was not run.
    """

    claim: Claim
    measured: Numbers
    verdict: str
    reason: str = ""


def judge(claim: Claim, runs: Mapping[str, Run]) -> Judgement:
    """Measure a claim and judge it by its rule.

    Args:
        claim: The claim.
        runs: The runs that there are, by name of their experiment.

    Returns:
        The judgement.
    """
    absent = [name for name in claim.needs if name not in runs]
    if claim.obstacle or absent:
        reason = claim.obstacle or f"no finished run of {', '.join(absent)}"
        return Judgement(claim, {}, NOT_RUN, reason)
    try:
        measured = claim.measure(runs)
    except KeyError as error:  # a layer without a number
        return Judgement(claim, {}, NOT_RUN, f"no number of {error.args[0]}")
    except LookupError as error:  # a shortened run may lack what the claim is about
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
