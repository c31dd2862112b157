"""The verdict on a study: texts that follow from the correlations by stated rules."""

from typing import NamedTuple

from lightning_id.study.analysis import SEED, Group, Relation
from lightning_id.study.statistics import LEVEL, MIN_UNITS

MIN_RUNS = 24
MIN_SPREAD = 0.10  # of an error that is a share: less than ten points is not much to predict
MIN_FACTOR = 2  # between the smallest and the largest error, which is enough as well

SIGNIFICANT = (
    "A correlation is significant when the interval of Pearson's r excludes 0 and the p-value of"
    f" the permutation test is as small as the interval asks for: at most {1 - LEVEL:g} over all"
    " runs, and that divided by the number of groups with an interval within them."
)
DIRECTIONS = {1: "higher with higher error", -1: "higher with lower error"}


# When a rule holds, and the answer in a sentence; in the order in which they are tried.
RULES = {
    "inconclusive": (
        f"fewer than {MIN_RUNS} runs, fewer than {MIN_UNITS} cells, an error that spreads over less"
        f" than {100 * MIN_SPREAD:g} points and less than a factor of {MIN_FACTOR}, or no group"
        f" with {MIN_UNITS} cells",
        "Inconclusive.",
    ),
    "directions differ": (
        "two significant correlations, of groups or over all runs, have opposite signs",
        "No: the direction of the relation depends on which runs are compared.",
    ),
    "no relation": (
        "no correlation is significant, neither over all runs nor within a group",
        "No relation is found.",
    ),
    "between groups only": (
        "significant over all runs, and within no group",
        "No: over all runs the dimension is {direction}; where {kind} is held equal, no relation is"
        " found.",
    ),
    "by one setting only": (
        "significant within groups whose runs differ in a setting; not significant where that"
        " setting is held equal, nor where nothing but the seed differs",
        "No: the relation is found only among runs that differ in {kind}; where it is held equal,"
        " none is found.",
    ),
    "within all groups": (
        "significant over all runs and within every group with an interval",
        "Yes, in this study: the relation is there within every group as well.",
    ),
    "within some groups": (
        "anything else: significant within a group, and not within every one or not over all runs",
        "In part: the relation is there in some of the comparisons and not in others.",
    ),
}


class Verdict(NamedTuple):
    """A key of `RULES`, and the answer in a sentence."""

    kind: str
    text: str


def verdict(relation: Relation) -> Verdict:
    """Apply the rules."""
    groups = [group for group in relation.groups if group.correlation.reason is None]
    reason = _inconclusive(relation, len(groups))
    if reason is not None:
        return Verdict("inconclusive", f"{RULES['inconclusive'][1]} {reason}")
    over_all, within = relation.over_all.sign, [group.correlation.sign for group in groups]
    setting = _only_setting(groups) if any(within) else None
    if {1, -1} <= {over_all, *within}:
        kind = "directions differ"
    elif not any(within):
        kind = "between groups only" if over_all else "no relation"
    elif setting is not None:
        kind = "by one setting only"
    else:
        kind = "within all groups" if over_all and all(within) else "within some groups"
    kinds = dict.fromkeys(group.kind for group in groups)
    equal = setting or " or ".join("all but the seed" if k == SEED else k for k in kinds)
    text = RULES[kind][1].format(kind=equal, direction=DIRECTIONS.get(over_all, ""))
    return Verdict(kind, text)


def is_wide(low: int | float, high: int | float) -> bool:
    """Return whether the range of an error is wide enough to be predicted."""
    is_share = -1 <= low <= high <= 1
    return (is_share and high - low >= MIN_SPREAD) or (low > 0 and high >= MIN_FACTOR * low)


def _inconclusive(relation: Relation, n_groups: int) -> str | None:
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
    if not n_groups:
        return f"Needs a group with {MIN_UNITS} cells, got none."
    return None


def _only_setting(groups: list[Group]) -> str | None:
    """Return the kind of groups that is held equal where nothing is significant."""
    signs: dict[str, list[int]] = {}
    for group in groups:
        signs.setdefault(group.kind, []).append(group.correlation.sign)
    seed = signs.pop(SEED, [1])
    return next((kind for kind, equal in signs.items() if not any(equal + seed)), None)
