"""The callback for the class tree of the package `lightning`."""

import itertools

import pytest
import pytorch_lightning as pl

from lightning_id import (
    IntrinsicDimensionCallback,
)
from tests.toys import Toy, loader


def test_both_class_trees_of_lightning_take_the_callback_of_their_own(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    from lightning_id.lightning import IntrinsicDimensionCallback as Other

    class OtherToy(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Toy().net

        training_step, configure_optimizers = Toy.training_step, Toy.configure_optimizers
        validation_step = Toy.validation_step

    seen = []
    for tree, kind, model in ((pl, IntrinsicDimensionCallback, Toy), (lightning, Other, OtherToy)):
        tree.seed_everything(3, verbose=False)
        callback = kind()
        runner = tree.Trainer(
            accelerator="cpu",
            max_epochs=2,
            enable_progress_bar=False,
            logger=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            callbacks=[callback],
            default_root_dir=tmp_path,
            num_sanity_val_steps=-1,
        )
        runner.fit(model(), loader(), loader(60))
        seen.append([(r["layer"], r["value"]) for r in callback.history.records])
    assert len(seen[0]) == 30
    for (a, x), (b, y) in itertools.zip_longest(*seen):
        assert (a, x) == (b, y)
