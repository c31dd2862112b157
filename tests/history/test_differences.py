"""Differences of two estimates: the paired bar where one was recorded for this very difference."""

import math

import pytest

from lightning_id import History
from lightning_id.history.differences import Difference, between, separate, since


def record(value, **fields):
    history = History()
    history.append(**{"value": value, "std_error": 0.5} | fields)
    return history.records[0]


@pytest.mark.parametrize("column", ["change", "change_previous", "change_lowest"])
def test_a_change_has_the_paired_bar_of_the_record_it_was_compared_with(column):
    now = record(7.0, **{column: -3.0, f"{column}_std_error": 0.1})
    assert since(now, record(10.0)) == Difference(-3.0, 0.1, is_paired=True)
    # No bar was recorded for the change from another record.
    assert since(now, record(11.0)) == Difference(-4.0, math.hypot(0.5, 0.5), is_paired=False)


def test_each_change_is_recognised_by_its_value():
    now = record(7.0)
    steps = {"change": (-3.0, 0.1), "change_previous": (1.0, 0.2), "change_lowest": (2.0, 0.3)}
    for column, (value, error) in steps.items():
        now |= {column: value, f"{column}_std_error": error}
    for value, error in steps.values():
        assert since(now, record(7.0 - value)) == Difference(value, error, is_paired=True)


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_change_without_a_paired_bar_has_the_one_of_separate_errors(missing):
    now = record(7.0, change=-3.0, change_std_error=missing)
    assert since(now, record(10.0)) == separate(now, record(10.0))


@pytest.mark.parametrize("column", ["from_input", "from_peak"])
def test_layers_are_compared_by_either_record(column):
    other, layer = record(5.0), record(8.0, **{column: 3.0, f"{column}_std_error": 0.2})
    assert between(layer, other) == Difference(3.0, 0.2, is_paired=True)
    assert between(other, layer) == Difference(-3.0, 0.2, is_paired=True)
    assert not between(layer, record(6.0)).is_paired


def test_a_recorded_difference_may_be_off_by_its_rounding_alone():
    layer = record(0.3, from_peak=0.1 + 0.2 - 0.1, from_peak_std_error=0.2)
    assert between(layer, record(0.1)).is_paired
    layer["from_peak"] += 1e-8
    assert not between(layer, record(0.1)).is_paired


def test_separate_errors_add_in_squares_and_a_missing_one_leaves_no_bar():
    bar = separate(record(9.0, std_error=0.3), record(4.0, std_error=0.4)).std_error
    assert bar == pytest.approx(0.5, rel=1e-15)
    assert math.isnan(separate(record(9.0, std_error=None), record(4.0)).std_error)


def test_a_direction_is_significant_beyond_the_95_percent_interval():
    just, not_yet = Difference(0.981, 0.5, True), Difference(0.979, 0.5, True)
    assert just.is_increase
    assert not just.is_decrease
    assert not not_yet.is_increase
    assert Difference(-0.981, 0.5, True).is_decrease
    assert not Difference(-0.979, 0.5, True).is_decrease
    unknown = Difference(5.0, math.nan, False)
    assert not unknown.is_increase
    assert not unknown.is_decrease


def test_the_difference_of_differences_has_the_sum_of_their_bars():
    rise, other = Difference(3.0, 0.2, True), Difference(1.0, 0.5, False)
    assert rise.minus(other) == Difference(2.0, 0.7, is_paired=False)
    assert rise.minus(rise) == Difference(0.0, 0.4, is_paired=True)


def test_its_text_has_the_sign_and_half_of_the_interval():
    assert str(Difference(3.0, 0.5, True)) == "+3.00 ± 0.98"
    assert str(Difference(-0.126, 0.5, False)) == "-0.13 ± 0.98"
    assert str(Difference(3.0, math.nan, True)) == "+3.00"
