"""The share of time that measuring may take."""

import pytest

from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.schedule import Budget


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
