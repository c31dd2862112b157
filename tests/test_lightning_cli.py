"""A LightningCLI of the user's own, of either of Lightning's class trees, names the callback."""

import lightning.pytorch as lightning_tree
import pytest
import pytorch_lightning as pl
import torch
import yaml
from lightning.pytorch.cli import LightningCLI as LightningTreeCLI
from pytorch_lightning.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader

from lightning_id import AtSteps, History
from tests.toys import toy_data

TREES = {
    "pytorch_lightning": (pl, LightningCLI, "lightning_id.IntrinsicDimensionCallback"),
    "lightning.pytorch": (
        lightning_tree,
        LightningTreeCLI,
        "lightning_id.lightning.IntrinsicDimensionCallback",
    ),
}


def project(tree):
    """Return a module and a data module of a tree."""

    class Model(tree.LightningModule):
        def __init__(self, width: int = 8):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 3))

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    class Data(tree.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(toy_data(64), 16, shuffle=True)

        def val_dataloader(self):
            return DataLoader(toy_data(60, seed=1), 16)

    return Model, Data


def run(tree, cli, folder, *configs):
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1}
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder)}}
    arguments = [f"--config={path}" for path in configs]
    return cli(
        *project(tree),
        args=["fit", *arguments],
        trainer_defaults=quiet | {"logger": logger},
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
    )


@pytest.mark.parametrize("name", TREES)
def test_every_argument_can_be_written_in_yaml_and_is_saved(name, tmp_path):
    tree, cli, path = TREES[name]
    callback = {
        "class_path": path,
        "init_args": {
            "layers": {"net.1": "hidden", "input": "input"},
            "estimators": ["twonn", "gride"],
            "n_samples": 50,
            "schedule": {
                "class_path": "lightning_id.AtSteps",
                "init_args": {"steps": [0, 2], "then_every": 4},
            },
            "reduce": "mean",
            "sample_dim": {"hidden": 0},
            "per_class": 10,
            "data": ["train"],
            "max_features": 32,
            "memory_limit": 1.5,
            "max_overhead": 0.9,
            "prefix": "train_",
            "charts": False,
        },
    }
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump({"trainer": {"max_steps": 4}}))
    fragment = {"trainer": {"callbacks+": [callback]}}
    (tmp_path / "fragment.yaml").write_text(yaml.safe_dump(fragment))
    done = run(tree, cli, tmp_path, tmp_path / "plain.yaml", tmp_path / "fragment.yaml")
    (ours,) = [c for c in done.trainer.callbacks if hasattr(c, "history")]
    assert ours.schedule == AtSteps([0, 2], 4)
    assert [step for _, _, step in ours.history.validations()] == [0, 2, 4]
    written = History.load(f"{done.trainer.log_dir}/train_")
    assert len(written.records) == len(ours.history.records) > 20
    # What was saved runs again and measures the same.
    saved = f"{done.trainer.log_dir}/config.yaml"
    again = run(tree, cli, tmp_path / "again", saved)
    (repeated,) = [c for c in again.trainer.callbacks if hasattr(c, "history")]
    measured = [[r["value"] for r in c.history.records] for c in (ours, repeated)]
    assert str(measured[0]) == str(measured[1])


@pytest.mark.parametrize("name", TREES)
def test_help_shows_the_arguments_with_their_words(name, tmp_path, capsys):
    tree, cli, path = TREES[name]
    with pytest.raises(SystemExit):
        cli(*project(tree), args=["fit", f"--trainer.callbacks.help={path}"], run=True)
    text = " ".join(capsys.readouterr().out.split())
    for words in ("the same ones at every validation", "--trainer.callbacks.mask_key"):
        assert words in text
