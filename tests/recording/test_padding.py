"""Padding in batches: which tokens count, without an option."""

import pytest
import torch
from torch import nn

from lightning_id import record_activations
from lightning_id.recording.batches import find_padding, pad_token_of, side_of_decoder

MASK = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
IDS = torch.tensor([[5, 6, 7, 9], [9, 9, 8, 5], [6, 9, 9, 7]])  # 9 is padding at the edges alone


class Blocks(nn.Module):
    def __init__(self, padding_idx=None):
        super().__init__()
        self.embedding = nn.Embedding(10, 4, padding_idx)
        self.block = nn.Linear(4, 4)

    def forward(self, input_ids, attention_mask=None):
        return self.block(self.embedding(input_ids))


def test_an_attention_mask_is_found_at_any_depth_and_by_its_name_alone():
    (padding,) = find_padding({"inputs": {"attention_mask": MASK}}, 3, None)
    assert padding.source == "attention_mask"
    assert torch.equal(padding.mask, MASK == 1)
    for other in ("key_padding_mask", "attn_mask", "mask"):  # 1 may be padding there
        assert find_padding({other: MASK}, 3, None) == ()


@pytest.mark.parametrize(
    "batch",
    [
        {"attention_mask": MASK[:2]},  # of another number of samples
        {"attention_mask": MASK * 2},  # numbers of documents that were packed
        {"attention_mask": (1.0 - MASK) * -1e9},  # to be added to scores
        {"a_attention_mask": MASK, "b_attention_mask": MASK},  # of two texts
    ],
)
def test_a_mask_of_another_meaning_is_not_used(batch):
    assert find_padding(batch, 3, None) == ()


def test_the_padding_token_counts_within_a_text():
    (padding,) = find_padding({"input_ids": IDS}, 3, 9)
    assert padding.source == "token 9 of input_ids"
    assert torch.equal(padding.mask, MASK == 1)


def test_the_attention_mask_goes_before_the_padding_token():
    (padding,) = find_padding({"input_ids": IDS, "attention_mask": MASK}, 3, 9)
    assert padding.source == "attention_mask"


def test_the_padding_token_is_that_of_the_config_or_of_the_embeddings():
    assert pad_token_of(Blocks()) is None
    assert pad_token_of(Blocks(padding_idx=9)) == 9
    both = nn.ModuleList([Blocks(padding_idx=9), Blocks(padding_idx=8)])
    assert pad_token_of(both) is None
    both.config = type("Config", (), {"pad_token_id": 7})
    assert pad_token_of(both) == 7


def test_a_config_that_raises_has_no_padding_token():
    class Unset(nn.Linear):
        @property
        def config(self):
            raise RuntimeError("not set up")

    assert pad_token_of(Unset(2, 2)) is None


def test_masks_of_an_encoder_do_not_hold_for_its_decoder_and_head():
    net = nn.Module()
    net.encoder, net.decoder, net.head = Blocks(), Blocks(), nn.Linear(4, 4)
    assert net.encoder.block not in side_of_decoder(net)
    assert {net.decoder.block, net.head} <= side_of_decoder(net)
    assert side_of_decoder(net.encoder) == set()
    masks = {"attention_mask": MASK, "decoder_attention_mask": MASK}
    assert [p.is_of_decoder for p in find_padding(masks, 3, None)] == [False, True]


@pytest.mark.parametrize("named", ["attention_mask", "positional", "padding_idx"])
@pytest.mark.parametrize(
    ("reduce", "places"), [("last", [2, 3, 3]), ("cls", [0, 2, 0]), ("mean", None)]
)
def test_rows_of_padded_texts_are_the_rows_of_their_tokens(named, reduce, places):
    net = Blocks(padding_idx=9 if named == "padding_idx" else None)
    args, kwargs = {
        "attention_mask": ((IDS,), {"attention_mask": MASK}),
        "positional": ((IDS, MASK), {}),
        "padding_idx": ((IDS,), {}),
    }[named]
    with record_activations(net, ["embedding", "block"], 3, reduce) as rows:
        hidden = net(*args, **kwargs).detach()
    if places is None:
        expected = torch.stack([x[m == 1].mean(0) for x, m in zip(hidden, MASK, strict=True)])
        torch.testing.assert_close(rows["block"], expected)
    else:
        assert torch.equal(rows["block"], hidden[torch.arange(3), places])


def test_layers_with_other_tokens_than_the_mask_keep_all_of_theirs():
    net = nn.Sequential(nn.Linear(4, 4))
    net.forward = lambda x, attention_mask: net[0](x)
    x = torch.randn(3, 7, 4)
    with record_activations(net, ["0"], 3, "last") as rows:
        out = net(x, attention_mask=MASK)
    assert torch.equal(rows["0"], out[:, -1])


def of_two_lengths(reduce):
    net = nn.Sequential(nn.Linear(4, 2))
    with record_activations(net, ["0"], 6, reduce) as rows:
        for length in (5, 7):
            net(torch.zeros(3, length, 4))
    return rows["0"]


def test_lengths_that_differ_between_batches_need_a_reduce_other_than_flatten():
    for reduce in ("mean", "max", "cls", "last", "per-position", "tokens"):
        assert of_two_lengths(reduce).shape == (6, 2)
    message = "reduce='mean', 'last' or 'tokens' gives rows of one length"
    with pytest.raises(ValueError, match=message):
        of_two_lengths("flatten")
