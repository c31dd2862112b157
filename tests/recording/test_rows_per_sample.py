"""Layers whose rows are not the samples of the batch: views, windows, nodes, padded batches."""

import warnings
from contextlib import nullcontext

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_id import IntrinsicDimensionCallback
from lightning_id.functional import twonn_dimension
from lightning_id.recording.recorder import Recorder
from lightning_id.recording.rule import RowRule
from lightning_id.recording.samples import first_samples
from lightning_id.recording.selection import Batch
from tests.toys import fitted, validated

REDUCTIONS = ["flatten", "mean", "max", "cls", "last", "per-position"]


def record(outputs, batch_sizes, rule, n_rows=None, chosen=None):
    """Return the recorder of a layer that gives these outputs for batches of these sizes."""
    layer, start, n = nn.Identity(), 0, sum(batch_sizes)
    recorder = Recorder({"layer": layer}, first_samples(n), rule, n_rows=n_rows)
    for output, size in zip(outputs, batch_sizes, strict=True):
        rows = torch.arange(size if chosen is None else chosen)
        recorder.begin(Batch(size, rows, rows + start))
        layer(output)
        recorder.end()
        start += len(rows)
    return recorder


def data(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_rows_one_after_another_are_the_tokens_of_their_sample(reduce):
    windows = data(10, 3, 7, 4)  # samples, windows, tokens, features
    split = record(windows.flatten(0, 1).split(15), [5, 5], RowRule(reduce, rows_per_sample=3))
    whole = record(windows.flatten(1, 2).split(5), [5, 5], RowRule(reduce))
    torch.testing.assert_close(split.rows("layer"), whole.rows("layer"), rtol=0, atol=0)
    vectors = record(
        windows[:, :, 0].flatten(0, 1).split(15), [5, 5], RowRule(reduce, None, rows_per_sample=3)
    )
    tokens = record(windows[:, :, 0].split(5), [5, 5], RowRule(reduce))
    torch.testing.assert_close(vectors.rows("layer"), tokens.rows("layer"), rtol=0, atol=0)
    assert split.selector("layer").rule_notes() == ["3 rows one after another are one sample"]


def test_the_first_rows_equal_the_first_view():
    first, second = data(20, 4), data(20, 4) + 9
    views = [torch.cat(pair) for pair in zip(first.split(8), second.split(8), strict=True)]
    recorder = record(views, [8, 8, 4], RowRule(rows_per_sample="first"))
    assert torch.equal(recorder.rows("layer"), first)
    assert recorder.selector("layer").rule_notes() == ["the first rows are the samples"]


def test_every_row_is_a_sample_of_its_own_chosen_from_all_batches_the_same_each_time():
    nodes = data(90, 4)
    rule = RowRule(rows_per_sample="all")
    sizes = [20, 33, 37]  # nodes of three batches of few graphs
    assert torch.equal(record(nodes.split(sizes), [3, 3, 2], rule, 200).rows("layer"), nodes)
    few = [
        record(nodes.split(sizes), [3, 3, 2], rule, 30, chosen).rows("layer") for chosen in (3, 0)
    ]
    assert torch.equal(few[0], few[1])  # whether a batch holds a chosen sample or not
    assert few[0].shape == (30, 4)
    found = (few[0][:, None] == nodes).all(2).nonzero()[:, 1]
    assert len(found.unique()) == 30
    assert {0, 1, 2} == set(torch.bucketize(found, torch.tensor([19, 52, 89])).tolist())


def in_chunks(x, batch_sizes, rule, chunk=3, chosen=None, mask=None):
    """Return the recorder of a layer that is given batches of these sizes chunk by chunk."""
    layer, n = nn.Identity(), sum(batch_sizes)
    recorder, start, slot = Recorder({"layer": layer}, first_samples(n), rule), 0, 0
    for size in batch_sizes:
        rows = (
            torch.arange(size) if chosen is None else torch.tensor([k for k in chosen if k < size])
        )
        here = slice(start, start + size)
        slots = rows.new_tensor(range(slot, slot + len(rows)))
        recorder.begin(Batch(size, rows, slots, None if mask is None else mask[here]))
        for part in x[here].split(chunk):
            layer(part)
        recorder.end()
        start, slot = start + size, slot + len(rows)
    return recorder


@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
@pytest.mark.parametrize("reduce", ["flatten", "mean"])
def test_the_chunks_of_a_batch_are_put_together(chunk, reduce):
    x, mask = data(20, 5, 4), None
    if reduce == "mean":
        mask = torch.arange(5) < 1 + torch.arange(20)[:, None] % 5
    chunks = in_chunks(x, [8, 8, 4], RowRule(reduce, rows_per_sample="chunks"), chunk, mask=mask)
    whole = in_chunks(x, [8, 8, 4], RowRule(reduce), 100, mask=mask)
    assert torch.equal(chunks.rows("layer"), whole.rows("layer"))
    assert chunks.selector("layer").rule_notes() == ["the chunks of a batch are put together"]
    assert chunks.calls == {}
    some = in_chunks(x, [8, 8, 4], RowRule(rows_per_sample="chunks"), chunk, chosen=[1, 2, 6])
    assert torch.equal(some.rows("layer"), x[[1, 2, 6, 9, 10, 14, 17, 18]].flatten(1))


def test_chunks_that_are_not_the_batch_together_are_a_reason():
    twice = in_chunks(data(32, 4)[:, :3], [8], RowRule(rows_per_sample="chunks"))
    assert twice.rows("layer") is not None
    layer = nn.Identity()
    recorder = Recorder({"layer": layer}, first_samples(8), RowRule(rows_per_sample="chunks"))
    recorder.begin(Batch(8, torch.arange(8), torch.arange(8)))
    layer(data(8, 3)), layer(data(8, 3))
    recorder.end()
    assert recorder.failures["layer"].startswith("expected chunks of 8 samples together, got 16")


def test_a_smaller_last_batch_whose_chunks_are_padded_does_not_discard_the_layer():
    x, layer = data(12, 4), nn.Identity()
    recorder = Recorder({"layer": layer}, first_samples(12), RowRule(rows_per_sample="chunks"))
    for start, size in ((0, 8), (8, 4)):
        recorder.begin(Batch(size, torch.arange(size), torch.arange(size) + start))
        layer(x[:3]), layer(x[3:6]), layer(x[6:8])
        recorder.end()
    assert torch.equal(recorder.rows("layer"), x[:8])
    assert "4 samples of a smaller batch are left out" in recorder.selector("layer").caveats()[0]


def test_a_mismatch_names_chunks_where_the_calls_have_the_rows_of_the_batch():
    why = in_chunks(data(8, 4), [8], RowRule()).failures["layer"]
    assert "got as many rows in 3 calls; rows_per_sample='chunks' puts them together" in why
    others = in_chunks(data(9, 4)[:7], [8], RowRule()).failures["layer"]
    assert "chunks" not in others


def test_a_mismatch_names_the_options_that_fit():
    def why(output, size):
        return record([output], [size], RowRule()).failures["layer"]

    assert "axis 1 is as long: sample_dim takes it" in why(data(7, 4, 3), 4)
    views = why(data(96, 5), 48)
    assert views.startswith(
        "expected 48 samples along axis 0, got 96 rows; rows_per_sample=2 takes"
    )
    assert "'first' the first 48 rows" in views
    nodes = why(data(17, 5), 4)
    assert "'all' takes every row" in nodes
    assert "sample_dim" not in nodes
    assert "'first'" not in why(data(3, 5), 4)
    assert "got shape ()" in why(torch.tensor(1.0), 4)


def test_a_smaller_last_batch_that_a_module_pads_does_not_discard_the_layer():
    x = data(20, 6)
    padded = [x[:8], x[8:16], torch.cat([x[16:], torch.zeros(4, 6)])]
    recorder = record(padded, [8, 8, 4], RowRule())
    assert torch.equal(recorder.rows("layer"), x[:16])
    assert recorder.slots("layer").tolist() == list(range(16))
    assert recorder.selector("layer").caveats() == [
        "4 samples of a smaller batch are left out: it gave other rows"
    ]
    first = record(padded, [8, 8, 4], RowRule(rows_per_sample="first"))
    assert torch.equal(first.rows("layer"), x)


def test_a_smaller_last_batch_that_shows_another_axis_discards_the_layer():
    steps = [data(8, 8, 3), data(8, 4, 3)]  # time first, as long as the full batch
    recorder = record(steps, [8, 4], RowRule())
    assert recorder.rows("layer") is None
    assert "axis 1 is as long" in recorder.failures["layer"]


# --- in a fit ------------------------------------------------------------------------------------


class Views(pl.LightningModule):
    """Two views of each image in one batch, as contrastive learning has them."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))

    def validation_step(self, batch, batch_idx):
        self.net(torch.cat([batch[0], batch[0].flip(1)]))


def measure(tmp_path, model, warns=None, **options):
    callback = IntrinsicDimensionCallback(["net.0", "net.1"], ["twonn"], **options)
    dataset = TensorDataset(data(60, 6), torch.arange(60) % 2)
    with pytest.warns(UserWarning, match=warns) if warns else nullcontext():
        validated(tmp_path, callback, model=model, data=DataLoader(dataset, 16))
    return {(r["layer"], r["label"]): r for r in callback.history.records}


def test_views_are_measured_by_their_first_or_all_together(tmp_path):
    pl.seed_everything(0, verbose=False)
    model = Views()
    with torch.no_grad():
        first, second = (model.net[:2](x) for x in (data(60, 6), data(60, 6).flip(1)))
    mismatch = "got 32 rows; rows_per_sample=2 takes"
    lost = measure(tmp_path, model, mismatch)
    assert lost["net.1", None]["reason"] is not None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "IntrinsicDimensionCallback")  # a choice is no warning
        found = measure(tmp_path, model, rows_per_sample="first", n_samples=60)
    assert found["net.1", None]["value"] == pytest.approx(twonn_dimension(first).value, rel=1e-6)
    assert found["net.1", None]["role"] == "last_hidden"
    assert found["net.1", None]["note"] == "the first rows are the samples"
    found = measure(tmp_path, model, mismatch, rows_per_sample={"net.1": "all"}, per_class=20)
    assert found["net.1", None]["note"] == "every row is a sample of its own"
    both = torch.cat([first, second])
    assert found["net.1", None]["value"] == pytest.approx(twonn_dimension(both).value, rel=1e-6)
    assert found["net.1", None]["n_samples"] == 120
    assert ("net.1", "0") not in found  # the rows have no labels


class InChunks(pl.LightningModule):
    """A module that runs its network on parts of a batch in validation, to save memory."""

    def __init__(self, chunk):
        super().__init__()
        self.chunk = chunk
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh())
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return torch.cat([self.head(self.net(part)) for part in x.split(self.chunk)])

    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit_in_chunks(tmp_path, chunk, **options):
    pl.seed_everything(0, verbose=False)
    model, callback = InChunks(chunk), IntrinsicDimensionCallback("auto", **options)
    loader = DataLoader(TensorDataset(data(60, 6)), 16)
    runner = fitted(tmp_path, callback, model=model, train=loader, val=loader, max_epochs=2)
    found = [(r["layer"], r["estimator"], r["step"], r["value"]) for r in callback.history.records]
    return found, runner.callback_metrics, callback.history.records


def test_a_fit_whose_module_chunks_its_batches_has_the_numbers_of_the_whole_batches(tmp_path):
    whole, metrics, _ = fit_in_chunks(tmp_path / "whole", 100)
    chunks, again, records = fit_in_chunks(tmp_path / "chunks", 5, rows_per_sample="chunks")
    assert {layer for layer, *_ in whole} == {"input", "net.0", "net.2", "last_hidden", "head"}
    assert [key for *key, _ in chunks] == [key for *key, _ in whole]
    for (*key, value), (*_, expected) in zip(chunks, whole, strict=True):
        assert value == pytest.approx(expected, rel=1e-4), key
    assert float(again["id/last_hidden"]) == pytest.approx(
        float(metrics["id/last_hidden"]), rel=1e-4
    )
    assert all(r["note"].startswith("the chunks of a batch are put together") for r in records)


def test_a_fit_in_chunks_without_the_option_names_it(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit_in_chunks(tmp_path, 5)
    ours = [str(w.message) for w in caught if "IntrinsicDimensionCallback" in str(w.message)]
    assert any("rows_per_sample='chunks'" in text for text in ours)
    assert not any("called 4 times" in text for text in ours)  # nothing is measured


class Padding(Views):
    """A module that always gives as many rows as its first batch had."""

    def validation_step(self, batch, batch_idx):
        x = batch[0]
        self.net(torch.cat([x, x.new_zeros(16 - len(x), 6)]))


def test_classes_of_a_layer_with_samples_left_out_have_their_own_labels(tmp_path):
    pl.seed_everything(0, verbose=False)
    model = Padding()
    found = measure(tmp_path, model, "12 samples of a smaller batch are left out", per_class=10)
    with torch.no_grad():
        rows = model.net[:1](data(60, 6)[:48])
    assert found["net.0", None]["n_samples"] == 48
    expected = twonn_dimension(rows[1::2]).value
    assert found["net.0", "1"]["value"] == pytest.approx(expected, rel=1e-6)


def test_a_rule_for_a_layer_that_is_not_measured_fails_before_anything_is_trained(tmp_path):
    class Fitted(Views):
        def training_step(self, batch, batch_idx):
            return self.net(batch[0]).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = IntrinsicDimensionCallback(["net.0"], rows_per_sample={"net.5": "all"})
    loader = DataLoader(TensorDataset(data(60, 6)), 16)
    with pytest.raises(ValueError, match="`rows_per_sample`: expected names of measured layers"):
        fitted(tmp_path, callback, model=Fitted(), train=loader, val=loader)
