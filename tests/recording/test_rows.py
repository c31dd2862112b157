import pytest
import torch

from lightning_id.functional import twonn_dimension
from lightning_id.recording.rule import reduce_rows

X = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
MASK = torch.tensor(  # padding on the right, on the left, on both sides, nowhere
    [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
).bool()
REAL = [X[0, :3], X[1, 2:], X[2, 1:4], X[3]]


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [
        ("mean", lambda tokens: tokens.mean(0)),
        ("max", lambda tokens: tokens.amax(0)),
        ("cls", lambda tokens: tokens[0]),
        ("last", lambda tokens: tokens[-1]),
    ],
)
def test_padding_is_left_out_wherever_it_is(reduce, expected):
    rows = reduce_rows(X, reduce, MASK)
    torch.testing.assert_close(rows, torch.stack([expected(tokens) for tokens in REAL]))


def test_what_the_padding_holds_does_not_matter_even_nan():
    padded = X.masked_fill(~MASK[:, :, None], torch.nan)
    for reduce in ("mean", "max", "cls", "last", "per-position"):
        draws = torch.tensor([0.1, 0.5, 0.99, 0.0])
        assert torch.equal(
            reduce_rows(padded, reduce, MASK, draws), reduce_rows(X, reduce, MASK, draws)
        )


def test_per_position_takes_the_drawn_token_of_all_that_count():
    rows = reduce_rows(X, "per-position", MASK, torch.tensor([0.0, 0.34, 0.999999, 0.5]))
    assert torch.equal(rows, torch.stack([REAL[0][0], REAL[1][1], REAL[2][2], REAL[3][2]]))


def test_per_position_takes_every_place_of_a_map_equally_often():
    maps = torch.arange(6.0).view(1, 1, 2, 3).expand(6000, 1, 2, 3)
    draws = torch.rand(6000, generator=torch.Generator().manual_seed(0))
    counts = reduce_rows(maps, "per-position", None, draws).long().flatten().bincount()
    assert len(counts) == 6
    assert counts.min() > 900


def test_flattened_padding_and_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="would hold the padding"):
        reduce_rows(X, "flatten", MASK)
    with pytest.raises(ValueError, match="expected 4 tokens"):
        reduce_rows(X, "mean", MASK[:, :4])
    with pytest.raises(ValueError, match="a token that counts"):
        reduce_rows(X, "mean", MASK & False)
    assert torch.equal(reduce_rows(X[:, 0], "flatten", MASK), X[:, 0])  # no tokens, no padding


def texts_in_two_word_orders(dtype):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(250, 40, 64, generator=generator).to(dtype)
    other = torch.stack([text[torch.randperm(40, generator=generator)] for text in tokens])
    return torch.cat((tokens, other))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("mask", [None, torch.ones(500, 40, dtype=torch.bool)])
def test_means_of_the_same_tokens_in_another_order_are_the_same_rows(dtype, mask):
    tokens = texts_in_two_word_orders(dtype)
    estimate = twonn_dimension(reduce_rows(tokens, "mean", mask))
    assert estimate.n_duplicates == 250
    once = twonn_dimension(tokens[:250].double().mean(1))
    assert float(estimate) == pytest.approx(float(once), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_means_of_equal_tokens_are_the_token_however_many(dtype):
    token = torch.randn(64, generator=torch.Generator().manual_seed(0)).to(dtype)
    tokens = token.expand(300, 57, 64)
    mask = torch.arange(57) <= torch.arange(300)[:, None] % 57
    assert torch.equal(reduce_rows(tokens, "mean", mask), token.expand(300, 64).float())
    assert torch.equal(reduce_rows(tokens, "mean"), token.expand(300, 64).float())


def test_sums_are_made_in_float64_some_rows_at_a_time(monkeypatch):
    maps = torch.randn(6, 8, 500, 600, generator=torch.Generator().manual_seed(0)) + 100
    copied = []
    double = torch.Tensor.double
    monkeypatch.setattr(torch.Tensor, "double", lambda x: copied.append(x.numel()) or double(x))
    rows = reduce_rows(maps, "mean")
    monkeypatch.undo()
    assert copied == [maps[0].numel()] * 6  # no copy of all in twice the memory
    assert torch.equal(rows, maps.double().mean((2, 3)).float())
