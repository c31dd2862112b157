"""The verdict on a study: texts that follow from the correlations by stated rules."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lightning_id.study.analysis import ARCHITECTURE, NOISE, SEED, Analysis, Group
from lightning_id.study.statistics import LEVEL, MIN_UNITS, Correlation

MIN_RUNS = 24
MIN_SPREAD = 0.10  # of the test error: less than ten points is not much to predict

INCONCLUSIVE = "inconclusive"
NO_RELATION = "no relation"
DIRECTIONS_DIFFER = "directions differ"
BETWEEN_GROUPS_ONLY = "between groups only"
BY_LABEL_NOISE_ONLY = "by label noise only"
WITHIN_ALL_GROUPS = "within all groups"
WITHIN_SOME_GROUPS = "within some groups"

SIGNIFICANT = (
    "A correlation is significant when the interval of Pearson's r excludes 0 and the p-value of"
    f" the permutation test is as small as the interval asks for: at most {1 - LEVEL:g} over all"
    " runs, and that divided by the number of groups with an interval within them."
)
# In the order in which they are tried.
RULES = {
    INCONCLUSIVE: f"fewer than {MIN_RUNS} runs, fewer than {MIN_UNITS} cells, a test error that"
    f" spreads over less than {100 * MIN_SPREAD:g} points, or no group with {MIN_UNITS} cells",
    DIRECTIONS_DIFFER: "two significant correlations, of groups or over all runs, have opposite"
    " signs",
    NO_RELATION: "no correlation is significant, neither over all runs nor within a group",
    BETWEEN_GROUPS_ONLY: "significant over all runs, and within no group",
    BY_LABEL_NOISE_ONLY: "significant within an architecture, whose runs differ in label noise;"
    " not significant within one label noise nor where nothing but the seed differs",
    WITHIN_ALL_GROUPS: "significant over all runs and within every group with an interval",
    WITHIN_SOME_GROUPS: "anything else: significant within a group, and not within every one or"
    " not over all runs",
}
ANSWERS = {
    INCONCLUSIVE: "Inconclusive.",
    DIRECTIONS_DIFFER: "No: the direction of the relation depends on which runs are compared.",
    NO_RELATION: "No relation is found.",
    BETWEEN_GROUPS_ONLY: "No: the relation is one between groups of runs. Among like runs none is"
    " found.",
    BY_LABEL_NOISE_ONLY: "No: the relation is found only among runs that differ in label noise."
    " Among runs of one label noise none is found.",
    WITHIN_ALL_GROUPS: "Yes, in this study: the relation is there within every group as well.",
    WITHIN_SOME_GROUPS: "In part: the relation is there in some of the comparisons and not in"
    " others.",
}


class Verdict(NamedTuple):
    """A key of `RULES`, and the answer with its correlations in sentences."""

    kind: str
    text: str


def verdict(analysis: Analysis) -> Verdict:
    """Apply the rules."""
    reason = _inconclusive(analysis)
    if reason is not None:
        return Verdict(INCONCLUSIVE, f"{ANSWERS[INCONCLUSIVE]} {reason}")
    kind = _kind(analysis)
    return Verdict(kind, " ".join([ANSWERS[kind], _over_all(analysis), *_within(analysis.groups)]))


def _inconclusive(analysis: Analysis) -> str | None:
    over_all = analysis.over_all
    if over_all.n_runs < MIN_RUNS:
        return f"Needs {MIN_RUNS} runs with both numbers, got {over_all.n_runs}."
    if over_all.reason is not None:
        return f"There is no interval over all runs: {over_all.reason}."
    if analysis.spread < MIN_SPREAD:
        return (
            f"The outcome spreads over {100 * analysis.spread:.1f} points;"
            f" {100 * MIN_SPREAD:g} are needed."
        )
    if not _testable(analysis.groups):
        return f"Needs a group with {MIN_UNITS} cells, got none."
    return None


def _kind(analysis: Analysis) -> str:
    over_all = analysis.over_all.sign
    within = [group.correlation.sign for group in _testable(analysis.groups)]
    if {1, -1} <= {over_all, *within}:
        return DIRECTIONS_DIFFER
    if not over_all and not any(within):
        return NO_RELATION
    if not any(within):
        return BETWEEN_GROUPS_ONLY
    close = [g for g in _testable(analysis.groups) if g.kind in (NOISE, SEED)]
    if {NOISE, SEED} == {g.kind for g in close} and not any(g.correlation.sign for g in close):
        return BY_LABEL_NOISE_ONLY
    return WITHIN_ALL_GROUPS if over_all and all(within) else WITHIN_SOME_GROUPS


def _over_all(analysis: Analysis) -> str:
    over_all = analysis.over_all
    return f"Over all {over_all.n_runs} runs {_text_of(over_all)}."


def _within(groups: Sequence[Group]) -> list[str]:
    headlines = {
        NOISE: "Within one label noise, all else varied",
        ARCHITECTURE: "Within one architecture, all else varied",
        SEED: "Where nothing but the seed differs",
    }
    sentences = []
    for kind, headline in headlines.items():
        testable = _testable(group for group in groups if group.kind == kind)
        if testable:
            parts = [
                f"{'' if kind == SEED else f'{group.label}: '}{_text_of(group.correlation)}"
                for group in testable
            ]
            sentences.append(f"{headline}: {'; '.join(parts)}.")
    untestable = [group.label for group in groups if group.correlation.reason is not None]
    if untestable:
        sentences.append(f"Inconclusive: {'; '.join(untestable)}.")
    return sentences


def _testable(groups: Iterable[Group]) -> list[Group]:
    return [group for group in groups if group.correlation.reason is None]


def _text_of(correlation: Correlation) -> str:
    significance = {
        1: "significant: the higher the dimension, the higher the error",
        -1: "significant: the higher the dimension, the lower the error",
        0: "not significant",
    }
    return f"r = {correlation.pearson}, {significance[correlation.sign]}"
