"""Whether a hunchback formed in training."""

import math

import pytest

from lightning_id import History
from lightning_id.history.differences import between, separate, since
from lightning_id.report.hunchback import hunchback
from tests.report.histories import BEFORE, LAST, after_training, measured, trained_and_untrained

FLAT, BENT = [10, 10, 10, 10], [10, 30, 6, 5]


def test_a_peak_that_the_untrained_network_lacks_formed_in_training():
    text = hunchback(trained_and_untrained(FLAT, BENT))
    assert text.startswith("Formed in training. layer1 is +20.00 ± 1.39 above layer0 and +24.00")
    assert "1.00 and 1.00 before training, 3.00 and 5.00 now." in text


def test_the_last_end_is_the_last_hidden_layer_and_no_narrow_output():
    history = measured(measured(History(), BEFORE, FLAT, role=None), LAST, BENT, role=None)
    for record in history.records:
        record["ambient_dimension"] = 10 if record["layer"] == "layer3" else 500
    assert "above layer2" in hunchback(history)
    untrained = after_training([15.7, 22.6, 22.4, 6.0], role=None)
    untrained.records[-1]["ambient_dimension"] = 10
    assert hunchback(untrained).startswith("Absent. The highest layer between the ends, layer1")


def test_a_peak_of_the_untrained_network_was_there_from_the_start():
    text = hunchback(trained_and_untrained([10, 25, 10, 9], BENT))
    assert text.startswith("There from the start")
    assert "Due to training are +5.00 ± " in text
    elsewhere = hunchback(trained_and_untrained([10, 28, 30, 10, 9], [10, 30, 10, 6, 5]))
    assert elsewhere.startswith("There from the start")


def test_a_slight_peak_of_the_untrained_network_may_still_form_in_training():
    text = hunchback(trained_and_untrained([10, 12, 10, 9], BENT))
    assert text.startswith("Formed in training, from a slight one of the untrained network.")


def test_a_slight_peak_has_to_rise_by_significantly_more_than_its_height():
    start = [10, 14, 10, 9]
    risen = [hunchback(trained_and_untrained(start, [10, top, 10, 9])) for top in (19, 26)]
    assert risen[0].startswith("There from the start")
    assert risen[1].startswith("Formed in training, from a slight one")


def test_a_peak_that_has_hardly_risen_since_is_inconclusive():
    text = hunchback(trained_and_untrained([10, 11.3, 10, 9], [10, 11.5, 10, 9]))
    assert text.startswith("Inconclusive whether training formed it")


def test_paired_bars_decide_where_separate_ones_are_too_wide():
    history = trained_and_untrained([10, 10.2, 10, 9], [10, 11, 10, 9])
    assert hunchback(history).startswith("Absent.")
    first, top, end, _ = history.records[-4:]
    top |= {"from_input": 1.0, "from_input_std_error": 0.1}
    end |= {"from_peak": -1.0, "from_peak_std_error": 0.1}
    top |= {"change": 11 - 10.2, "change_std_error": 0.1}
    for layer in (first, end):
        layer |= {"change": 0.0, "change_std_error": 0.0}
    text = hunchback(history)
    assert text.startswith("Formed in training. layer1 is +1.00 ± 0.20 above layer0")
    assert "Due to training are +0.80 ± 0.20 of the height above layer0" in text
    assert "paired 95 % bars" in text
    assert "separate" not in text.split("Due to training")[1]


def test_a_network_that_has_not_learnt_has_no_hunchback_of_training():
    history = trained_and_untrained(FLAT, BENT)
    history.append_metrics(LAST, {"val_acc": 0.003})
    assert hunchback(history).startswith("Not one of training: the network has not learnt.")


def test_an_untrained_network_alone_has_no_hunchback_of_training():
    assert hunchback(measured(History(), BEFORE, BENT)).startswith("Of the untrained network")


@pytest.mark.parametrize("fields", [{"n_samples": 500}, {"data": "other"}])
def test_without_the_untrained_network_on_the_same_samples_it_is_inconclusive(fields):
    assert "inconclusive whether training formed it" in hunchback(after_training(BENT))
    history = measured(measured(History(), BEFORE, FLAT, **fields), LAST, BENT)
    assert "inconclusive whether training formed it" in hunchback(history)


def test_without_error_bars_or_without_an_inside_it_is_inconclusive():
    assert "no error bars" in hunchback(after_training(BENT, error=math.nan))
    assert hunchback(after_training([10, 30])).startswith("Inconclusive")


def test_a_recorded_difference_is_used_only_for_its_own_pair():
    then, now = trained_and_untrained([10], [12], role=None).records
    now |= {"change": 2.0, "change_std_error": 0.1, "change_previous": 1.0}
    assert since(now, then) == (2.0, 0.1, True)
    then["value"] = 9.0
    assert since(now, then) == separate(now, then)
    then |= {"from_peak": -3.0, "from_peak_std_error": 0.2}
    assert between(now, then) == (3.0, 0.2, True)
    assert str(between(now, then)) == "+3.00 ± 0.39"
