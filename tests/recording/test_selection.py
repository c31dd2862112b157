"""Rows of the chosen samples, selected from one output at a time, and caveats about them."""

import pytest
import torch
from torch import nn

from lightning_id.recording.axes import Axes
from lightning_id.recording.batches import Padding
from lightning_id.recording.rule import RowRule
from lightning_id.recording.samples import uniform_draws
from lightning_id.recording.selection import Batch, RowSelector

X = torch.randn(8, 3, 4, generator=torch.Generator().manual_seed(0))


def selector(reduce="flatten", n_rows=20, root=None, **rule):
    return RowSelector("layer", RowRule(reduce, **rule), Axes(root), uniform_draws(20, 0), n_rows)


def batch(size=8, rows=None, start=0, **fields):
    rows = torch.arange(size) if rows is None else torch.tensor(rows, dtype=torch.long)
    return Batch(size, rows, start + torch.arange(len(rows)), **fields)


def select(selector, output, at=None, module=None):
    selector.start_batch()
    return selector.select(batch(len(output)) if at is None else at, output, module)


def test_rows_are_copies_in_the_order_of_the_chosen_samples_with_their_slots():
    output, one = X.clone(), selector()
    rows, slots = select(one, output, Batch(8, torch.tensor([6, 1]), torch.tensor([3, 0])))
    output.zero_()
    assert torch.equal(rows, X[[6, 1]].flatten(1))
    assert slots.tolist() == [3, 0]
    assert one.width == 12
    assert one.caveats() == one.rule_notes() == one.padding_notes() == []


def test_a_batch_without_chosen_samples_gives_no_rows():
    empty = batch(rows=[])
    assert not selector().has_rows_in(empty)
    assert selector().has_rows_in(batch())
    assert select(selector(), X, empty) is None
    own = selector(rows_per_sample="all")
    assert own.has_rows_in(empty)  # any row may be chosen
    assert torch.equal(select(own, X, empty)[0], X.flatten(1))


def test_a_later_axis_holds_the_samples_where_it_is_given():
    rows, _ = select(selector(sample_dim=1), X.movedim(0, 1), batch())
    assert torch.equal(rows, X.flatten(1))
    named = select(selector(sample_dim={"other": 1}), X, batch())
    assert torch.equal(named[0], rows)


def test_draws_of_a_sample_are_its_own_whatever_its_batch():
    one, other = (selector("per-position") for _ in "ab")
    whole, _ = select(one, X)
    parts = [
        select(other, X[start : start + 4], batch(4, start=start))[0] for start in range(0, 8, 4)
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((7, 3), "expected 8 samples along axis 0, got 7 rows; rows_per_sample: 'all' takes"),
        ((), r"expected 8 samples along axis 0, got shape \(\)"),
    ],
)
def test_an_output_without_the_rows_of_the_batch_raises(shape, message):
    with pytest.raises(ValueError, match=message):
        select(selector(), torch.zeros(shape), batch())


def test_a_smaller_batch_with_other_rows_is_left_out_and_counted():
    one = selector()
    select(one, X)
    assert select(one, X, batch(3)) is None
    assert select(one, X, batch(2, rows=[1])) is None
    assert one.caveats() == ["4 samples of a smaller batch are left out: it gave other rows"]
    with pytest.raises(ValueError, match="got 5 rows"):
        select(one, X[:5], batch())  # a whole batch has no excuse


def test_a_smaller_batch_along_an_axis_that_fitted_every_batch_raises():
    one = selector()
    square = torch.zeros(8, 8, 2)
    select(one, square)
    with pytest.raises(ValueError, match="axis 1 is as long: sample_dim takes it"):
        select(one, torch.zeros(8, 4, 2), batch(4))


def test_calls_with_the_rows_of_a_batch_together_are_chunks():
    one, at = selector(), batch()
    one.start_batch()
    with pytest.raises(ValueError, match="got 3 rows"):
        one.select(at, X[:3], None)
    assert one.why_chunks(at, 1) is None
    one.count_later_call(X[3:6])
    assert one.why_chunks(at, 2) is None
    one.count_later_call((X[6:],))
    assert one.why_chunks(at, 3) == (
        "expected 8 samples along axis 0, got as many rows in 3 calls; rows_per_sample='chunks'"
        " puts them together"
    )
    one.start_batch()
    one.count_later_call(X)
    assert one.why_chunks(at, 2) is None


def test_more_rows_than_samples_are_no_chunks():
    one, at = selector(), batch(4)
    one.start_batch()
    with pytest.raises(ValueError, match="got 5 rows"):
        one.select(at, X[:5], None)
    one.count_later_call(X[:3])
    assert one.why_chunks(at, 2) is None


def test_chunks_are_the_next_samples_of_the_batch():
    one, at = (
        selector(rows_per_sample="chunks"),
        Batch(8, torch.tensor([1, 6]), torch.tensor([5, 2])),
    )
    one.start_batch()
    found = [one.select(at, part, None) for part in X.split(3)]
    assert [None if each is None else each[1].tolist() for each in found] == [[5], None, [2]]
    assert torch.equal(found[0][0], X[[1]].flatten(1))
    assert torch.equal(found[2][0], X[[6]].flatten(1))
    assert one.n_met == 8
    assert one.has_all_chunks(at)
    one.start_batch()
    assert one.n_met == 0
    one.select(at, X[:3], None)
    with pytest.raises(ValueError, match="expected chunks of 8 samples together, got 3 rows"):
        one.has_all_chunks(at)
    last = batch(4)
    one.start_batch()
    one.select(last, X[:3], None)
    assert not one.has_all_chunks(last)
    assert one.caveats() == ["4 samples of a smaller batch are left out: it gave other rows"]


@pytest.mark.parametrize(
    ("rule", "notes"),
    [
        ({"rows_per_sample": 3}, ["3 rows one after another are one sample"]),
        ({"rows_per_sample": "all"}, ["every row is a sample of its own"]),
        ({"rows_per_sample": "first"}, ["the first rows are the samples"]),
        ({"rows_per_sample": "chunks"}, ["the chunks of a batch are put together"]),
        ({"reduce": "tokens"}, ["every row is a token, drawn once from all samples"]),
        ({"rows_per_sample": {"other": 3}}, []),
    ],
)
def test_the_effect_of_a_rule_is_noted(rule, notes):
    assert selector(**rule).rule_notes() == notes


def test_an_open_axis_is_a_caveat_as_long_as_no_batch_decides():
    net = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))
    square, other = torch.zeros(8, 4, 4), torch.zeros(8, 3, 4)
    one = selector("mean", root=net)
    select(one, square, module=net)
    assert one.caveats() == ["the features may lie along axis 1 or axis 2: axis 2 was taken"]
    select(one, other, module=net)
    assert one.caveats() == []
    select(one, square, module=net)
    assert one.caveats() == []  # once decided
    maps = selector("mean", root=net)
    select(maps, torch.zeros(8, 4, 3, 4), module=net)
    assert maps.caveats() == [
        "the features may lie along axis 1 or the last axis: axis 1 was taken"
    ]


def test_two_axes_as_long_as_the_batch_are_a_caveat_for_one_row_a_sample():
    net = nn.Linear(4, 4)
    one, joined = selector(root=net), selector(rows_per_sample="first", root=net)
    for each in (one, joined):
        select(each, torch.zeros(8, 8, 4), module=net)
    assert one.caveats()[0].startswith("axes 0 and 1 are both as long as the batch")
    assert joined.caveats() == []


MASK = torch.tensor([[True, True, False]] * 8)


def test_a_mask_of_the_user_leaves_tokens_out_and_is_no_note():
    one = selector("mean")
    rows, _ = select(one, X, batch(rows=[0, 5], mask=MASK))
    torch.testing.assert_close(rows, X[[0, 5], :2].mean(1))
    assert one.padding_notes() == []


def test_padding_that_is_found_is_left_out_of_tokens_that_it_fits_and_noted():
    found = Padding("attention_mask", MASK, is_of_decoder=False)
    one = selector("last")
    rows, _ = select(one, X, batch(padding=(found,)))
    assert torch.equal(rows, X[:, 1])
    assert one.padding_notes() == ["padding by attention_mask is left out"]
    whole = Padding("attention_mask", MASK | True, is_of_decoder=False)
    for padding in (whole, Padding("attention_mask", MASK[:, :2], is_of_decoder=False)):
        other = selector("last")
        rows, _ = select(other, X, batch(padding=(padding,)))
        assert torch.equal(rows, X[:, -1])
        assert other.padding_notes() == []


def test_padding_of_the_other_side_of_a_decoder_is_not_used():
    net = nn.Module()
    net.encoder, net.decoder = nn.Linear(4, 4), nn.Linear(4, 4)
    sides = [
        Padding("attention_mask", MASK, is_of_decoder=False),
        Padding("decoder_attention_mask", MASK.flip(1), is_of_decoder=True),
    ]
    for module, place in ((net.encoder, 1), (net.decoder, 2)):
        rows, _ = select(selector("last", root=net), X, batch(padding=tuple(sides)), module)
        assert torch.equal(rows, X[:, place])


@pytest.mark.parametrize(
    ("reduce", "n_padded", "holds"), [("mean", 3, True), ("mean", 7, False), ("mean", None, False)]
)
def test_rows_that_hold_padding_are_known(reduce, n_padded, holds):
    one = selector(reduce)
    select(one, X, batch(n_padded=n_padded))
    assert one.holds_padding is holds


def test_rows_without_padding_hold_none():
    one = selector("mean")
    select(one, X, batch(mask=MASK, n_padded=3))
    assert not one.holds_padding


def test_joined_rows_are_the_tokens_of_their_sample():
    windows = X.reshape(16, 6)[:, None].expand(16, 2, 6)
    rows, _ = select(selector("mean", rows_per_sample=2), windows, batch())
    torch.testing.assert_close(rows, windows.reshape(8, 4, 6).mean(1))
    flat, _ = select(selector(rows_per_sample=2), windows, batch())
    assert torch.equal(flat, windows.reshape(8, 24))


def test_tokens_are_drawn_in_the_place_of_samples():
    one = selector("tokens", n_rows=5)
    rows, slots = select(one, X)
    assert sorted(slots.tolist()) == list(range(5))
    assert all(bool((row == X).all(2).any()) for row in rows)
    few, _ = select(selector("tokens", n_rows=50), X, batch(mask=MASK))
    assert torch.equal(few.sort(0).values, X[:, :2].flatten(0, 1).sort(0).values)


def test_an_output_of_sequences_has_its_own_mask():
    ragged = torch.nested.as_nested_tensor([X[0, :1], X[1], X[2, :2]])
    rows, _ = select(selector("last"), ragged, batch(3))
    assert torch.equal(rows, torch.stack([X[0, 0], X[1, 2], X[2, 1]]))
