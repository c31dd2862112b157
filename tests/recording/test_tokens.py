"""Rows that are tokens: drawn once, the same ones in every layer, batch size and padding."""

import pytest
import torch
from torch import nn

from lightning_id import record_activations
from lightning_id.recording.measurement import Measurement, Options
from lightning_id.recording.rule import RowRule
from lightning_id.recording.samples import ReservoirSamples, TokenDraw

LENGTHS = [1 + (7 * i) % 11 for i in range(60)]


def texts(side, batch_size):
    """Yield padded batches of tokens that hold their text and place, and their masks."""
    for start in range(0, len(LENGTHS), batch_size):
        lengths = LENGTHS[start : start + batch_size]
        longest = max(lengths)
        x, mask = torch.full((len(lengths), longest, 2), -1.0), torch.zeros(len(lengths), longest)
        for i, n in enumerate(lengths):
            at = slice(longest - n, None) if side == "left" else slice(n)
            x[i, at, 0], x[i, at, 1], mask[i, at] = start + i, torch.arange(n).float(), 1
        yield x, mask.bool()


def drawn(side="right", batch_size=7, n=20, **options):
    draw, rows = TokenDraw(RowRule("tokens", **options), n), torch.full((n, 2), -1.0)
    for x, mask in texts(side, batch_size):
        chosen, slots = draw.next_rows(x, mask)
        rows[slots] = chosen
    return rows[rows[:, 0] >= 0]


@pytest.mark.parametrize("options", [{}, {"tokens_per_sample": 2}, {"positions": [0, 3, -1]}])
def test_the_same_tokens_are_drawn_whatever_the_padding(options):
    rows = drawn(**options)
    assert len(rows.unique(dim=0)) == 20
    for side, batch_size in (("left", 7), ("right", 60), ("left", 1)):
        assert torch.equal(drawn(side, batch_size, **options), rows)


def test_all_true_tokens_are_drawn_equally_often():
    times = torch.zeros(60)
    for seed in range(300):
        times += drawn(seed=seed)[:, 0].long().bincount(minlength=60)
    # Each token is drawn with probability 20 / sum(LENGTHS): a text as often as it is long.
    expected = 300 * 20 * torch.tensor(LENGTHS) / sum(LENGTHS)
    assert ((times - expected).abs() < 5 * expected.sqrt()).all()


def test_no_more_tokens_of_a_sample_are_drawn_than_asked():
    most = drawn(n=1000, tokens_per_sample=2)[:, 0].long().bincount(minlength=60)
    assert most.tolist() == [min(n, 2) for n in LENGTHS]
    assert len(drawn(n=1000)) == sum(LENGTHS)


def test_positions_count_true_tokens_from_both_ends():
    last = drawn(n=1000, positions=[-1])
    assert last.tolist() == [[i, n - 1] for i, n in enumerate(LENGTHS)]
    both = drawn(n=1000, positions=[2, -1])
    expected = [[i, p] for i, n in enumerate(LENGTHS) for p in sorted({2, n - 1}) if p < n]
    assert both.tolist() == expected


def test_all_layers_have_the_same_tokens_and_an_output_without_tokens_its_rows():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Identity(), nn.Identity(), nn.Linear(2, 2)

        def forward(self, x, attention_mask):
            return self.head(self.second(self.first(x) * 2)[:, 0])

    net = Net()
    with record_activations(net, ["first", "second", "head"], 60, "tokens") as rows:
        for x, mask in texts("left", 8):
            net(x, attention_mask=mask)
    assert len(rows["first"]) == 60
    assert (rows["first"] >= 0).all()
    assert torch.equal(rows["first"] * 2, rows["second"])
    assert len(rows["head"]) == 60


def test_a_mask_of_other_tokens_is_refused():
    with pytest.raises(ValueError, match="expected 4 tokens, as the mask has, got 5"):
        TokenDraw(RowRule("tokens"), 9).next_rows(torch.zeros(2, 5, 3), torch.ones(2, 4).bool())


def test_tokens_of_a_stream_are_drawn_from_all_of_its_samples():
    net = nn.ModuleDict({"block": nn.Identity()})
    rule = RowRule("tokens", tokens_per_sample=1)
    measurement = Measurement(net, {"block": "block"}, ReservoirSamples(20, 0), Options(rule))
    for x, mask in texts("left", 4):
        measurement.begin_batch({"x": x, "attention_mask": mask})
        net["block"](x)
        measurement.end_batch()
    seen = []
    (result,) = measurement.results({"rows": lambda geometry: seen.append(geometry.x)})
    rows = drawn(n=20, tokens_per_sample=1)
    assert torch.equal(seen[0], rows)
    assert rows[:, 0].max() > 40
    assert "padding by attention_mask is left out" in result.padding_notes
