"""Whether a network has learnt."""

import pytest

from lightning_id.report.learning import accuracy_finding, has_learnt
from tests.report.histories import BEFORE, LAST, after_training


def run(*accuracies, name="val_acc", width=10):
    history = after_training([5, 6, 4])
    history.records[-1]["ambient_dimension"] = width
    for time, value in zip((BEFORE, ("fit", 0, 10), LAST), accuracies, strict=True):
        history.append_metrics(time, {name: value, "train_acc": 1.0, "val_loss": 0.5})
    return history


def test_the_first_the_best_and_the_last_accuracy_are_given():
    assert accuracy_finding(run(0.1, 0.98, 0.97)) == (
        "val_acc: first 10.0% (before training), best 98.0% (epoch 1, step 10), last 97.0% (epoch"
        " 2, step 20)."
    )
    assert accuracy_finding(after_training([5, 6])) is None


@pytest.mark.parametrize(
    ("last", "width", "learnt"),
    [(0.14, 10, False), (0.15, 10, True), (0.003, 1000, True), (0.52, 2, False), (0.1, 1, None)],
)
def test_near_chance_nothing_is_learnt(last, width, learnt):
    history = run(0.1, 0.9, last, width=width)
    assert has_learnt(history) is learnt
    assert ("has not learnt: chance is" in accuracy_finding(history)) == (learnt is False)


def test_percent_are_shares():
    assert has_learnt(run(10.0, 12.0, 11.0, name="valid/accuracy")) is False
