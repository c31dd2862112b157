"""The rules of the verdicts on text, on clouds whose dimensions are known."""

import re
import runpy
from itertools import combinations
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[1] / "examples" / "reproduce_text.py"


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE.parent)
        return runpy.run_path(str(EXAMPLE))


def cloud(dimension, seed=0):
    x = torch.randn(600, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.pad(x[:, :dimension], (0, 12 - dimension))


def verdicts(example, trained, untrained, shuffled):
    found = {"trained": trained, "untrained": untrained, "shuffled": shuffled}
    rows = {state: [cloud(d) for d in dimensions] for state, dimensions in found.items()}
    return [verdict for *_, verdict in example["verdicts"](rows)]


def test_a_verdict_holds_fails_or_is_inconclusive_by_its_paired_bar(example):
    holds, fails, open_ = "holds", "does not hold", "inconclusive"
    assert verdicts(example, (8, 3), (8, 8), (8, 5)) == [holds] * 4
    assert verdicts(example, (3, 8), (8, 3), (8, 5)) == [fails] * 4
    assert verdicts(example, (5, 5), (5, 5), (5, 5)) == [open_, holds, open_, open_]


def test_the_sentences_are_plain_no_near_duplicates_and_the_same_ones_each_time(example):
    sentences = example["sentences"]
    found = sentences(["json", "http", "email"])
    assert sentences(["json", "http", "email"], 60) == found[:60] != found
    bags = [set(re.findall(r"\w+", text.lower())) for text, _ in found]
    assert all(len(a & b) < 0.5 * len(a | b) for a, b in combinations(bags, 2))
    assert all(20 <= len(text) <= 200 for text, _ in found)
    assert not {*"".join(text for text, _ in found)} & {*"`=_<:0123456789"}
    with pytest.raises(ValueError, match="no_such_package"):
        sentences(["no_such_package"])
