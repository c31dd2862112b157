"""Inside a LightningModule: ``self.log`` with the metric, one number per epoch."""

import pytest
import pytorch_lightning as pl
import torch
from tester import gaussian
from torch import nn
from torch.utils.data import DataLoader

from lightning_id.functional import twonn_dimension
from lightning_id.metrics import PCADimension, TwoNNDimension


class Encoder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 20)
        self.dimension = TwoNNDimension()
        self.small = TwoNNDimension(max_samples=50)
        self.components = PCADimension()
        self.outputs: list[torch.Tensor] = []
        self.expected: list[float] = []

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()

    def on_validation_epoch_start(self):
        self.outputs.clear()

    def validation_step(self, batch, batch_idx):
        features = self.net(batch)
        self.outputs.append(features.clone())
        for name in ("dimension", "small", "components"):
            metric = getattr(self, name)
            metric.update(features)
            self.log(name, metric)

    def on_validation_epoch_end(self):
        self.expected.append(twonn_dimension(torch.cat(self.outputs)).value)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Values(pl.Callback):
    def __init__(self):
        self.logged: list[dict[str, float]] = []

    def on_validation_end(self, trainer, module):
        self.logged.append({k: float(v) for k, v in trainer.callback_metrics.items()})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_each_epoch_logs_the_dimension_of_all_its_rows(tmp_path, inference_mode, precision):
    module, values = Encoder(), Values()
    loader = DataLoader(gaussian(), batch_size=64)
    trainer = pl.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=2,
        callbacks=[values],
        inference_mode=inference_mode,
        precision=precision,
        num_sanity_val_steps=1,
    )
    if precision == "bf16-true":
        loader = DataLoader(gaussian().bfloat16(), batch_size=64)
    trainer.fit(module, loader, loader)
    assert len(values.logged) == 3  # the sanity check, then each epoch by itself
    for logged, expected in zip(values.logged[1:], module.expected[1:], strict=True):
        assert logged["dimension"] == pytest.approx(expected, rel=1e-6)
        assert logged["small"] != logged["dimension"]
        assert logged["components"] == int(logged["components"])
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    state = torch.load(tmp_path / "it.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {"net.weight", "net.bias"}
