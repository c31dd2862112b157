"""Arguments of the callback, its sample sets, and checks before a fit."""

import pytest

from lightning_id import AtSteps, EveryNValidations, LogSpaced
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.schedule import Budget


def test_every_nth_validation_is_measured_from_the_first_on():
    assert [EveryNValidations(3).at_validation(i) for i in range(7)] == [1, 0, 0, 1, 0, 0, 1]
    assert not any(EveryNValidations(3).at_step(step) for step in range(7))


def test_the_listed_steps_are_measured_and_then_multiples():
    schedule = AtSteps([0, 2, 5, 10, 15, 20, 30, 45, 60, 90], then_every=50)
    measured = [step for step in range(201) if schedule.at_step(step)]
    assert measured == [0, 2, 5, 10, 15, 20, 30, 45, 60, 90, 100, 150, 200]
    assert not any(schedule.at_validation(i) for i in range(5))
    assert [step for step in range(9) if AtSteps([3, 1]).at_step(step)] == [1, 3]


def test_log_spaced_steps_are_in_equal_ratios_each_once():
    measured = [step for step in range(10_001) if LogSpaced(4).at_step(step)]
    expected = sorted({0} | {round(10 ** (i / 4)) for i in range(17)})
    assert measured == expected


@pytest.mark.parametrize(
    ("kind", "wrong", "name"),
    [
        (EveryNValidations, (0,), "`n`"),
        (AtSteps, ([1, -1],), "`steps`"),
        (AtSteps, ([], 0), "`then_every`"),
        (LogSpaced, (0,), "`per_decade`"),
    ],
)
def test_a_schedule_out_of_range_is_refused(kind, wrong, name):
    with pytest.raises(ValueError, match=name):
        kind(*wrong)


# --- the share of time that measuring may take ----------------------------------------------------


def budget_of(share):
    return Budget(share, FailurePolicy("warn", "Callback"))


def same(pair):
    return pair


def test_without_a_share_every_measurement_is_allowed():
    budget = budget_of(None)
    budget.start()
    budget.spent += 1e9
    assert budget.allows(same)


def test_a_measurement_is_allowed_until_the_share_is_spent():
    budget = budget_of(0.5)
    budget.start()
    assert budget.allows(same)
    budget.spent += 60
    with pytest.warns(UserWarning, match=r"not every .* 60.0 s of .* more than max_overhead=0.5"):
        assert not budget.allows(same)
    assert not budget.allows(same)  # reported once


def test_all_ranks_decide_by_the_clock_of_the_first():
    budget = budget_of(0.02)
    budget.start()
    budget.spent += 60
    assert budget.allows(lambda _: (2.0, 100.0))
    with pytest.warns(UserWarning, match="2.1 s of 100.0 s"):
        assert not budget.allows(lambda _: (2.1, 100.0))


def test_a_fit_begins_with_nothing_spent():
    budget = budget_of(0.5)
    budget.start()
    budget.spent += 60
    budget.start()
    assert budget.spent == 0
    assert 0 <= budget.elapsed < 10


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=r"`max_overhead`: expected a share in \(0, 1\)"):
        budget_of(share)
