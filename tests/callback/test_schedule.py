import pytest

from lightning_id import AtSteps, EveryNValidations, LogSpaced


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
