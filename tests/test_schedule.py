import pytest

from lightning_id import EveryNValidations


def test_every_nth_validation_is_measured_from_the_first_on():
    assert [EveryNValidations(3)(i, step=0) for i in range(7)] == [1, 0, 0, 1, 0, 0, 1]


def test_less_than_every_validation_is_refused():
    with pytest.raises(ValueError, match="`n`"):
        EveryNValidations(0)
