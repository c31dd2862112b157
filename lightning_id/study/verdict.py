"""The verdict on a study: texts that follow from the correlations by stated rules."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lightning_id.study.analysis import SEED, Group, Relation
from lightning_id.study.statistics import LEVEL, MIN_UNITS

MIN_RUNS = 24
MIN_SPREAD = 0.10  # of an error that is a share: less than ten points is not much to predict
MIN_FACTOR = 2  # between the smallest and the largest error, which is enough as well

INCONCLUSIVE = "inconclusive"
NO_RELATION = "no relation"
DIRECTIONS_DIFFER = "directions differ"
BETWEEN_GROUPS_ONLY = "between groups only"
BY_ONE_SETTING_ONLY = "by one setting only"
WITHIN_ALL_GROUPS = "within all groups"
WITHIN_SOME_GROUPS = "within some groups"

SIGNIFICANT = (
    "A correlation is significant when the interval of Pearson's r excludes 0 and the p-value of"
    f" the permutation test is as small as the interval asks for: at most {1 - LEVEL:g} over all"
    " runs, and that divided by the number of groups with an interval within them."
)
# In the order in which they are tried.
RULES = {
    INCONCLUSIVE: f"fewer than {MIN_RUNS} runs, fewer than {MIN_UNITS} cells, an error that spreads"
    f" over less than {100 * MIN_SPREAD:g} points and less than a factor of {MIN_FACTOR}, or no"
    f" group with {MIN_UNITS} cells",
    DIRECTIONS_DIFFER: "two significant correlations, of groups or over all runs, have opposite"
    " signs",
    NO_RELATION: "no correlation is significant, neither over all runs nor within a group",
    BETWEEN_GROUPS_ONLY: "significant over all runs, and within no group",
    BY_ONE_SETTING_ONLY: "significant within groups whose runs differ in a setting; not significant"
    " where that setting is held equal, nor where nothing but the seed differs",
    WITHIN_ALL_GROUPS: "significant over all runs and within every group with an interval",
    WITHIN_SOME_GROUPS: "anything else: significant within a group, and not within every one or"
    " not over all runs",
}
DIRECTIONS = {1: "higher with higher error", -1: "higher with lower error"}
ANSWERS = {
    INCONCLUSIVE: "Inconclusive.",
    DIRECTIONS_DIFFER: "No: the direction of the relation depends on which runs are compared.",
    NO_RELATION: "No relation is found.",
    BETWEEN_GROUPS_ONLY: "No: over all runs the dimension is {direction}; where {kind} is held"
    " equal, no relation is found.",
    BY_ONE_SETTING_ONLY: "No: the relation is found only among runs that differ in {kind}; where it"
    " is held equal, none is found.",
    WITHIN_ALL_GROUPS: "Yes, in this study: the relation is there within every group as well.",
    WITHIN_SOME_GROUPS: "In part: the relation is there in some of the comparisons and not in"
    " others.",
}


class Verdict(NamedTuple):
    """A key of `RULES`, and the answer in a sentence."""

    kind: str
    text: str


def verdict(relation: Relation) -> Verdict:
    """Apply the rules."""
    reason = _inconclusive(relation)
    if reason is not None:
        return Verdict(INCONCLUSIVE, f"{ANSWERS[INCONCLUSIVE]} {reason}")
    setting = _only_setting(relation)
    kind = _kind(relation, setting)
    kinds = dict.fromkeys(group.kind for group in testable(relation.groups))
    equal = setting or " or ".join("all but the seed" if k == SEED else k for k in kinds)
    direction = DIRECTIONS.get(relation.over_all.sign, "")
    return Verdict(kind, ANSWERS[kind].format(kind=equal, direction=direction))


def is_wide(low: int | float, high: int | float) -> bool:
    """Return whether the range of an error is wide enough to be predicted."""
    is_share = -1 <= low <= high <= 1
    return (is_share and high - low >= MIN_SPREAD) or (low > 0 and high >= MIN_FACTOR * low)


def testable(groups: Iterable[Group]) -> list[Group]:
    """Return the groups that have an interval."""
    return [group for group in groups if group.correlation.reason is None]


def _inconclusive(relation: Relation) -> str | None:
    over_all = relation.over_all
    if over_all.n_runs < MIN_RUNS:
        return f"Needs {MIN_RUNS} runs with both numbers, got {over_all.n_runs}."
    if over_all.reason is not None:
        return f"There is no interval over all runs: {over_all.reason}."
    if not is_wide(relation.low, relation.high):
        return (
            f"The error ranges from {relation.low:.3g} to {relation.high:.3g}; a factor of"
            f" {MIN_FACTOR} is needed, or {100 * MIN_SPREAD:g} points of an error that is a share."
        )
    if not testable(relation.groups):
        return f"Needs a group with {MIN_UNITS} cells, got none."
    return None


def _kind(relation: Relation, setting: str | None) -> str:
    over_all = relation.over_all.sign
    within = _signs(testable(relation.groups))
    if {1, -1} <= {over_all, *within}:
        return DIRECTIONS_DIFFER
    if not any(within):
        return BETWEEN_GROUPS_ONLY if over_all else NO_RELATION
    if setting is not None:
        return BY_ONE_SETTING_ONLY
    return WITHIN_ALL_GROUPS if over_all and all(within) else WITHIN_SOME_GROUPS


def _only_setting(relation: Relation) -> str | None:
    """Return the kind of groups that is held equal where nothing is significant."""
    groups = testable(relation.groups)
    seed = [group for group in groups if group.kind == SEED]
    for kind in dict.fromkeys(group.kind for group in groups if group.kind != SEED):
        equal = [group for group in groups if group.kind == kind]
        if seed and not any(_signs([*equal, *seed])) and any(_signs(groups)):
            return kind
    return None


def _signs(groups: Sequence[Group]) -> list[int]:
    return [group.correlation.sign for group in groups]
