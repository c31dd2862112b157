"""Small real models and data that the tests train."""

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Toy(pl.LightningModule):
    """A convolutional classifier with dropout, batch norm and ReLUs in place; a user's module."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 16),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Linear(16, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_acc", (self.net(x).argmax(1) == y).float().mean(), batch_size=len(y))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def toy_data(n: int = 100, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 8, 8, generator=generator)
    return TensorDataset(x, (x.mean((1, 2, 3)) > 0).long())


def loader(n: int = 100, batch_size: int = 16, shuffle: bool = False, seed: int = 0) -> DataLoader:
    return DataLoader(toy_data(n, seed), batch_size=batch_size, shuffle=shuffle)


def trainer(folder: object, **kwargs: object) -> pl.Trainer:
    """A quiet Trainer on the CPU, two epochs by default."""
    quiet = {
        "accelerator": "cpu",
        "max_epochs": 2,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return pl.Trainer(**{**quiet, **kwargs})


def fitted(
    folder: object,
    *callbacks: pl.Callback,
    model: pl.LightningModule | None = None,
    train: object = None,
    val: object = ...,
    ckpt_path: object = None,
    **options: object,
) -> pl.Trainer:
    """Train a toy, or another module, with callbacks: on 100 samples, validated on 60 others.

    `val=None` is a fit without a validation.
    """
    runner = trainer(folder, callbacks=list(callbacks), **options)
    runner.fit(
        Toy() if model is None else model,
        loader() if train is None else train,
        loader(60, seed=1) if val is ... else val,
        ckpt_path=ckpt_path,
    )
    return runner


def validated(
    folder: object,
    *callbacks: pl.Callback,
    model: pl.LightningModule,
    data: object,
    **options: object,
) -> pl.Trainer:
    """Validate a module on data, with callbacks."""
    runner = trainer(folder, callbacks=list(callbacks), **options)
    runner.validate(model, data, verbose=False)
    return runner


def state_of(model: nn.Module, runner: pl.Trainer) -> list[Tensor]:
    """Return weights, the state of the optimiser and that of the random numbers."""
    return [
        *model.state_dict().values(),
        *(
            x
            for state in runner.optimizers[0].state_dict()["state"].values()
            for x in state.values()
            if isinstance(x, Tensor)
        ),
        torch.get_rng_state(),
    ]


def count_hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


def averaged_weights(decay: float) -> pl.Callback:
    """Return the callback that validates with averaged weights; skips where Lightning has none."""
    if not hasattr(pl.callbacks, "EMAWeightAveraging"):
        pytest.skip("pytorch-lightning 2.6 brought EMAWeightAveraging")
    return pl.callbacks.EMAWeightAveraging(decay=decay)
