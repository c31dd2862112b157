"""The rules of the verdicts on text, on clouds whose dimensions are known."""

import runpy
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[1] / "examples" / "reproduce_text.py"


@pytest.fixture(scope="module")
def example():
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


def test_the_sentences_are_distinct_and_the_same_ones_each_time(example):
    sentences = example["sentences"]()
    assert len(set(sentences)) == len(sentences) > 1500
    assert all(6 <= len(each.split()) <= 40 for each in sentences)
