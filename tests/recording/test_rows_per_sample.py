"""Layers whose rows are not the samples of the batch: views, windows, nodes, padded batches."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_id.functional import twonn_dimension
from lightning_id.recording.recorder import Recorder
from lightning_id.recording.rule import RowRule
from lightning_id.recording.samples import first_samples
from lightning_id.recording.selection import Batch
from tests.recording import measuring

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


# --- measured ------------------------------------------------------------------------------------


class Views(nn.Module):
    """Two views of each image in one batch, as contrastive learning has them."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))

    def validation_step(self, batch, batch_idx):
        self.net(torch.cat([batch[0], batch[0].flip(1)]))


def measure(model, layers="net.[01]", plan=None, **options):
    dataset = TensorDataset(data(60, 6), torch.arange(60) % 2)
    return measuring.measure(model, DataLoader(dataset, 16), layers, plan, **options)


def test_views_are_measured_by_their_first_or_all_together():
    pl.seed_everything(0, verbose=False)
    model = Views()
    with torch.no_grad():
        first, second = (model.net[:2](x) for x in (data(60, 6), data(60, 6).flip(1)))
    mismatch = "got 32 rows; rows_per_sample=2 takes"
    assert mismatch in measure(model).records["net.1"]["reason"]
    found = measure(model, rows_per_sample="first", n_samples=60)
    assert found.remarks["net.1"] == []  # a choice is no warning
    record = found.records["net.1"]
    assert record["value"] == pytest.approx(twonn_dimension(first).value, rel=1e-6)
    assert record["role"] == "last_hidden"
    assert record["note"] == "the first rows are the samples"
    found = measure(model, rows_per_sample={"net.1": "all"}, per_class=20)
    assert mismatch in found.records["net.0"]["reason"]
    record = found.records["net.1"]
    assert record["note"] == "every row is a sample of its own"
    both = torch.cat([first, second])
    assert record["value"] == pytest.approx(twonn_dimension(both).value, rel=1e-6)
    assert record["n_samples"] == 120
    assert found.classes == {}  # the rows have no labels


class InChunks(nn.Module):
    """A module that runs its network on parts of a batch in validation, to save memory."""

    def __init__(self, chunk):
        super().__init__()
        pl.seed_everything(0, verbose=False)
        self.chunk = chunk
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh())
        self.head = nn.Linear(5, 2)

    def validation_step(self, batch, batch_idx):
        for part in batch[0].split(self.chunk):
            self.head(self.net(part))


def test_a_module_that_chunks_its_batches_has_the_numbers_of_the_whole_batches():
    whole = measure(InChunks(100), "auto").records
    first = measure(InChunks(5), "auto", rows_per_sample="chunks")
    again = measure(InChunks(5), "auto", first.plan, rows_per_sample="chunks")
    assert list(whole) == ["input", "net.0", "net.2", "last_hidden", "head"]
    for chunks in (first.records, again.records):
        assert list(chunks) == list(whole)
        for name, record in chunks.items():
            assert record["value"] == pytest.approx(whole[name]["value"], rel=1e-4), name
            assert record["note"].startswith("the chunks of a batch are put together")


def test_without_the_option_chunks_are_a_reason_that_names_it():
    remarks = measure(InChunks(5), "auto").remarks
    texts = [text for of_layer in remarks.values() for text in of_layer]
    assert any("rows_per_sample='chunks'" in text for text in texts)
    assert not any("called 4 times" in text for text in texts)  # nothing is measured


class Padding(Views):
    """A module that always gives as many rows as its first batch had."""

    def validation_step(self, batch, batch_idx):
        x = batch[0]
        self.net(torch.cat([x, x.new_zeros(16 - len(x), 6)]))


def test_classes_of_a_layer_with_samples_left_out_have_their_own_labels():
    pl.seed_everything(0, verbose=False)
    model = Padding()
    found = measure(model, per_class=10)
    assert "12 samples of a smaller batch are left out" in found.remarks["net.0"][-1]
    with torch.no_grad():
        rows = model.net[:1](data(60, 6)[:48])
    assert found.records["net.0"]["n_samples"] == 48
    expected = twonn_dimension(rows[1::2]).value
    assert found.classes["net.0", "1"]["value"] == pytest.approx(expected, rel=1e-6)
