"""What users may ask for: classes by themselves, padding, other axes, less memory."""

import statistics
from contextlib import nullcontext

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_id import IntrinsicDimensionCallback, manifolds
from lightning_id.functional import pca_dimension, twonn_dimension
from tests.toys import Toy, loader, trainer, validated


class Wrapped(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def validation_step(self, batch, batch_idx):
        self.net(batch)


class Labelled(Wrapped):
    def validation_step(self, batch, batch_idx):
        self.net(batch[0])


@pytest.fixture(autouse=True)
def seed():
    pl.seed_everything(1, verbose=False)  # notes on random rows may appear by chance


def validate(folder, model, data, callback, batch_size=32, collate_fn=None):
    runner = trainer(folder, callbacks=[callback])
    loader = DataLoader(data, batch_size, collate_fn=collate_fn)
    runner.validate(model, loader, verbose=False)
    return {k: float(v) for k, v in runner.callback_metrics.items()}


def record(callback, layer, estimator="twonn", label=None):
    key = (layer, estimator, label)
    (found,) = [
        r for r in callback.history.records if (r["layer"], r["estimator"], r["label"]) == key
    ]
    return found


@pytest.fixture
def classes():
    """Two classes of dimensions 2 and 8, and a third with too few samples."""
    x = torch.cat([manifolds.ball(n, d, ambient=10, seed=d) for n, d in [(150, 2), (150, 8)]])
    y = torch.tensor([0] * 150 + [7] * 150)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    y[order[:20]] = 3
    return TensorDataset(x[order], y[order])


def test_classes_are_measured_by_themselves(classes, tmp_path):
    callback = IntrinsicDimensionCallback(["input", "net"], per_class=True)
    logged = validate(tmp_path, Labelled(nn.Linear(10, 6)), classes, callback)
    x, y = classes.tensors
    expected = {label: twonn_dimension(x[y == label]) for label in (0, 7)}
    for label, estimate in expected.items():
        found = record(callback, "input", label=str(label))
        assert found["value"] == estimate.value
        assert found["n_samples"] == int((y == label).sum())
        components = pca_dimension(x[y == label]).value
        assert record(callback, "input", "pca", str(label))["value"] == components
    labels = {r["label"] for r in callback.history.records}
    assert labels == {None, "0", "7"}  # 3 has too few
    values = [estimate.value for estimate in expected.values()]
    assert logged["id_twonn_per_class/input"] == pytest.approx(statistics.fmean(values))
    assert logged["id_twonn_per_class_sd/input"] == pytest.approx(statistics.stdev(values))
    assert logged["id_twonn/input"] == pytest.approx(twonn_dimension(x).value)
    validation = callback.history.validations()[0]
    assert len(callback.history.at(validation, "twonn")) == 2


def test_the_least_samples_of_a_class_may_be_given(classes, tmp_path):
    callback = IntrinsicDimensionCallback(["input"], per_class=10)
    validate(tmp_path, Labelled(nn.Linear(10, 6)), classes, callback)
    assert {r["label"] for r in callback.history.records} == {None, "0", "3", "7"}
    with pytest.raises(ValueError, match="`per_class`"):
        IntrinsicDimensionCallback(per_class=2)


def test_a_batch_without_labels_is_a_warning(tmp_path):
    callback = IntrinsicDimensionCallback(["input"], per_class=True)
    with pytest.warns(UserWarning, match="the labels, got shapes"):
        validate(tmp_path, Wrapped(nn.Linear(4, 2)), torch.randn(40, 4), callback)


class Encoder(nn.Module):
    """Tokens of its own for each sample, and padding that is full of noise."""

    def __init__(self):
        super().__init__()
        self.block, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, input_values, attention_mask):
        hidden = self.block(input_values)
        pooled = (hidden * attention_mask[:, :, None]).sum(1) / attention_mask.sum(1, True)
        return {"last_hidden_state": hidden, "logits": self.head(pooled)}


class Keywords(Wrapped):
    def validation_step(self, batch, batch_idx):
        self.net(**batch)


def padded(batch):
    """Pad the sequences of a batch to the longest of it, as tokenizers do."""
    longest = max(map(len, batch))
    rows = torch.randn(len(batch), longest, 6)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    for i, sequence in enumerate(batch):
        rows[i, : len(sequence)], mask[i, : len(sequence)] = sequence, 1
    return {"input_values": rows, "attention_mask": mask}


@pytest.mark.parametrize("mask_key", ["attention_mask", None])
@pytest.mark.parametrize("reduce", ["mean", "max", "cls", "last", "per-position", "tokens"])
def test_padding_does_not_change_the_number(reduce, mask_key, tmp_path):
    generator = torch.Generator().manual_seed(0)
    data = [torch.randn(2 + i % 5, 6, generator=generator) for i in range(100)]
    found = []
    for batch_size in (4, 50):  # another padding, the same samples
        callback = IntrinsicDimensionCallback(
            ["input", "net.block"], reduce=reduce, mask_key=mask_key
        )
        pl.seed_everything(0, verbose=False)
        validate(tmp_path, Keywords(Encoder()), data, callback, batch_size, padded)
        found.append(record(callback, "net.block"))
        assert record(callback, "input")["reason"] is None
    assert found[0]["reason"] is None
    assert found[0]["value"] == pytest.approx(found[1]["value"], rel=1e-5)
    assert found[0]["reduce"] == reduce
    is_noted = "padding by attention_mask is left out" in (found[0]["note"] or "")
    assert is_noted == (mask_key is None)


def test_padding_that_is_not_left_out_is_noted_once(tmp_path, recwarn):
    data = [torch.randn(2 + i % 5, 6) for i in range(40)]

    def said(data, **options):
        recwarn.clear()
        callback = IntrinsicDimensionCallback(["net.block", "net.head"], **options)
        validate(tmp_path, Keywords(Encoder()), data, callback, 40, padded)
        texts = [str(w.message) for w in recwarn if "hold the padding that" in str(w.message)]
        assert "padding" not in (record(callback, "net.head")["note"] or "")  # of one token
        note = record(callback, "net.block")["note"] or ""
        assert ("hold the padding" in note) == bool(texts)
        return texts

    (text,) = said(data)
    assert text.endswith(
        "mask_key='attention_mask' with a reduce such as 'mean', 'last' or 'tokens' leaves it out"
    )
    assert "layer" not in text
    assert said(data, reduce="cls") == []  # the first token is none
    assert said(data, reduce="mean", mask_key="attention_mask") == []
    assert said([torch.randn(4, 6) for _ in range(40)], reduce="mean") == []  # no padding


def test_flattened_padding_and_a_missing_mask_are_noted(tmp_path):
    data = [torch.randn(3, 6) for _ in range(40)]
    callback = IntrinsicDimensionCallback(["net.block"], mask_key="attention_mask")
    with pytest.warns(UserWarning, match="a flattened row would hold the padding"):
        validate(tmp_path, Keywords(Encoder()), data, callback, collate_fn=padded)
    callback = IntrinsicDimensionCallback(["net.block"], reduce="mean", mask_key="mask")
    with pytest.warns(UserWarning, match=r"`mask_key`: expected a batch with 'mask', got \['input"):
        validate(tmp_path, Keywords(Encoder()), data, callback, collate_fn=padded)


def test_layers_whose_first_axis_is_time_are_measured_where_the_samples_are(tmp_path):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(8, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.lstm(x.transpose(0, 1))[0][-1])

    pl.seed_everything(0, verbose=False)
    model, data = Wrapped(Recurrent()), torch.randn(60, 5, 8)
    callback = IntrinsicDimensionCallback(
        ["input", "net.lstm", "net.head"], reduce="last", sample_dim={"net.lstm": 1}
    )
    validate(tmp_path, model, data, callback)
    with torch.no_grad():
        rows = model.net.lstm(data.transpose(0, 1))[0][-1]
    assert record(callback, "net.lstm")["value"] == pytest.approx(
        twonn_dimension(rows).value, rel=1e-5
    )
    assert record(callback, "net.lstm")["role"] == "last_hidden"
    assert record(callback, "net.head")["reason"] is None


def test_a_batch_whose_first_axis_is_time_is_measured_too(tmp_path):
    data = [torch.randn(5, 4) for _ in range(60)]
    callback = IntrinsicDimensionCallback(["input"], reduce="mean", sample_dim={"input": 1})
    with pytest.warns(UserWarning, match="layer 'last_hidden': .* sample_dim takes it"):
        validate(
            tmp_path,
            Wrapped(nn.Linear(4, 2)),
            data,
            callback,
            collate_fn=lambda rows: torch.stack(rows, dim=1),
        )
    rows = torch.stack(data).mean(1)
    assert record(callback, "input")["value"] == pytest.approx(
        twonn_dimension(rows).value, rel=1e-6
    )


def test_a_projection_is_only_for_wide_layers_and_said_in_the_record(tmp_path):
    plain = IntrinsicDimensionCallback(["input", "net.0", "net.5"])
    projected = IntrinsicDimensionCallback(["input", "net.0", "net.5"], max_features=64)
    for callback in (plain, projected):
        pl.seed_everything(0, verbose=False)
        warned = pytest.warns(UserWarning, match="layer 'net.0': a random projection")
        with warned if callback is projected else nullcontext():
            validated(tmp_path, callback, model=Toy(), data=loader(200))
    wide = record(projected, "net.0")
    assert wide["note"] == "a random projection of its 144 features to 64"
    assert wide["ambient_dimension"] == 144
    error = record(plain, "net.0")["std_error"]
    assert 0 < abs(wide["value"] - record(plain, "net.0")["value"]) < 5 * error
    for layer in ("input", "net.5"):
        assert record(projected, layer)["note"] is None
        assert record(projected, layer)["value"] == record(plain, layer)["value"]


def test_rows_in_files_give_the_same_numbers(tmp_path):
    found = []
    for limit in (None, 1e-5, 1e-9):  # all, some and none in memory
        callback = IntrinsicDimensionCallback(memory_limit=limit)
        pl.seed_everything(0, verbose=False)
        validated(tmp_path, callback, model=Toy(), data=loader(100))
        found.append([r["value"] for r in callback.history.records])
    assert found[0] == found[1] == found[2]
    with pytest.raises(ValueError, match="`memory_limit`"):
        IntrinsicDimensionCallback(memory_limit=0)
