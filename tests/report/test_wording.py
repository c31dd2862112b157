"""Wording shared by the findings."""

import pytest

from lightning_id import History
from lightning_id._checks import listed
from lightning_id.report.wording import NAME_LENGTH, at, names, percent, short


def test_a_value_has_its_bar_and_its_layer():
    history = History()
    history.append(layer="fc1", value=14.126, std_error=0.5, low=13.146, high=15.106)
    history.append(layer="conv", value=3.0)  # a count of components
    assert [at(record) for record in history.records] == ["14.13 ± 0.98 at fc1", "3 at conv"]


@pytest.mark.parametrize(("n", "more"), [(1, ""), (6, ""), (9, " and 3 more")])
def test_of_many_layers_the_first_are_named_and_the_others_counted(n, more):
    layers = [f"layer{i}" for i in range(n)]
    assert names(layers) == ", ".join(layers[:6]) + more


def test_items_are_listed_with_the_number_of_the_others():
    assert listed(["a", "b"], most=2) == "a, b"
    assert listed("abcde", most=2) == "a, b and 3 more"


@pytest.mark.parametrize(("share", "text"), [(0.394, "39 %"), (1.0, "100 %"), (0.0, "0 %")])
def test_a_share_is_in_whole_percent(share, text):
    assert percent(share) == text


def test_a_long_name_keeps_its_end_which_distinguishes_it():
    blocks = [f"{'stage.' * 20}block{i}.norm" for i in range(2)]
    assert short("fc1") == "fc1"
    assert {len(short(block)) for block in blocks} == {NAME_LENGTH}
    assert all(short(block).endswith(block[-12:]) for block in blocks)
    assert names(blocks) == ", ".join(map(short, blocks))
