"""The changes since the first and the previous measurement, in the history and the loggers."""

import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_id import IntrinsicDimensionCallback
from lightning_id.functional import change

X = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
Y = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))


class Network(pl.LightningModule):
    """Two layers that move at every step."""

    def __init__(self):
        super().__init__()
        pl.seed_everything(0)
        self.hidden = nn.Linear(12, 8)
        self.output = nn.Linear(8, 3)
        self.rows = []
        self.inputs = []

    def forward(self, x):
        return self.output(torch.tanh(self.hidden(x)))

    def training_step(self, batch):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch):
        weight, bias = self.hidden.weight, self.hidden.bias
        self.inputs.append(batch[0])
        self.rows.append(nn.functional.linear(batch[0], weight, bias).detach())
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


def loader():
    return DataLoader(TensorDataset(X, Y), batch_size=64)


def fit(folder, epochs=3, resume=None, layers=("hidden",), **options):
    callback = IntrinsicDimensionCallback(list(layers), n_samples=64, **options)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        enable_checkpointing=False,
    )
    network = Network()
    trainer.fit(network, loader(), loader(), ckpt_path=resume)
    return trainer, callback, network


def records(callback, estimator="twonn"):
    found = [r for r in callback.history.records if r["layer"] == "hidden"]
    return [r for r in found if r["estimator"] == estimator]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("fit"))


def test_the_changes_are_of_the_same_rows(finished):
    _, callback, network = finished
    first, *later = records(callback)
    assert first["change"] is None
    before, after = network.rows[-2:]
    previous = change(before, after)
    assert later[-1]["change_previous"] == pytest.approx(previous.value, abs=1e-6)
    assert later[-1]["change_previous_std_error"] == pytest.approx(previous.std_error, rel=1e-4)
    assert later[-1]["change"] == pytest.approx(later[-1]["value"] - first["value"])
    assert later[-1]["change_std_error"] > 0


def test_the_change_from_the_first_measurement_is_logged_with_its_bar(finished):
    trainer, callback, _ = finished
    last = records(callback)[-1]
    metrics = trainer.callback_metrics
    assert float(metrics["id_twonn_change/hidden"]) == pytest.approx(last["change"], rel=1e-6)
    bar = float(metrics["id_twonn_change_se/hidden"])
    assert bar == pytest.approx(last["change_std_error"], rel=1e-6)


def test_estimators_without_error_bars_have_no_changes(finished):
    _, callback, _ = finished
    assert all(record["change"] is None for record in records(callback, "pca"))
    assert not any("pca_change" in key for key in callback.last_metrics)


def test_the_lowest_value_before_is_compared_with(finished):
    _, callback, network = finished
    values = [record["value"] for record in records(callback)]
    lowest = min(range(2), key=values.__getitem__)
    expected = change(network.rows[lowest], network.rows[2])
    last = records(callback)[-1]
    assert last["change_lowest"] == pytest.approx(expected.value, abs=1e-6)
    assert last["change_lowest_std_error"] == pytest.approx(expected.std_error, rel=1e-4)


def test_layers_of_one_measurement_are_compared_sample_by_sample(tmp_path):
    _, callback, network = fit(tmp_path, epochs=1, layers=["input", "hidden", "output"])
    found = {r["layer"]: r for r in callback.history.records if r["estimator"] == "twonn"}
    expected = change(network.inputs[0], network.rows[0])
    assert found["hidden"]["from_input"] == pytest.approx(expected.value, abs=1e-6)
    assert found["hidden"]["from_input_std_error"] == pytest.approx(expected.std_error, rel=1e-4)
    assert found["input"]["from_input"] == found["input"]["from_input_std_error"] == 0
    top = max(found.values(), key=lambda record: record["value"])
    assert top["from_peak"] == top["from_peak_std_error"] == 0
    for record in found.values():
        assert record["from_peak"] == pytest.approx(record["value"] - top["value"])
    assert found["output"]["from_peak_std_error"] > 0


def test_a_resumed_run_goes_on(finished, tmp_path):
    trainer, _, _ = fit(tmp_path, epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    _, resumed, _ = fit(tmp_path, epochs=3, resume=tmp_path / "two.ckpt")
    _, whole, _ = finished
    columns = ("change", "change_std_error", "change_previous", "change_previous_std_error")
    columns += ("change_lowest", "change_lowest_std_error")
    last, expected = records(resumed)[-1], records(whole)[-1]
    assert [last[c] for c in columns] == [expected[c] for c in columns]
    assert all(math.isfinite(last[c]) for c in columns)
    torch.load(tmp_path / "two.ckpt", weights_only=True)


def test_another_model_is_not_compared_with_the_one_before(tmp_path):
    _, callback, _ = fit(tmp_path, epochs=1)
    n_before = len(records(callback))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
    )
    trainer.fit(Network(), loader(), loader())
    assert records(callback)[n_before]["change"] is None
