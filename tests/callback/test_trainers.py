"""Facts read from a Trainer that nothing documents: each is seen in a fit as it runs."""

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_id.callback.running import Moment
from lightning_id.callback.trainers import (
    batch_on_device,
    call_through_wrapper,
    is_compiled,
    logger_step,
    measured_loader,
    probe_loader,
    stage_of,
    training_names,
)
from lightning_id.history import BEFORE_TRAINING
from tests.toys import Toy, fitted, loader, trainer


class Reading(pl.Callback):
    """Reads at every validation."""

    def __init__(self):
        self.found = []

    def on_validation_start(self, trainer, pl_module):
        chosen, n_batches = measured_loader(trainer, 0)
        facts = {
            "stage": stage_of(trainer),
            "untrained": Moment.now(trainer).validation.stage == BEFORE_TRAINING,
            "step": logger_step(trainer),
            "is loader": chosen is trainer.val_dataloaders,
            "batches": n_batches,
            "has validation": trainer.enable_validation,
        }
        self.found.append(facts)


def test_facts_of_a_fit(tmp_path):
    reading = Reading()
    runner = trainer(tmp_path, callbacks=[reading], num_sanity_val_steps=2, max_epochs=1)
    model = Toy()
    assert stage_of(runner) == ""
    runner.fit(model, loader(), loader(60))
    common = {"stage": "fit", "is loader": True, "has validation": True}
    assert reading.found == [
        common | {"untrained": True, "step": 0, "batches": 2},
        common | {"untrained": False, "step": 6, "batches": 4},
    ]
    assert training_names(runner) == {"train_loss"}
    assert Moment.now(runner, in_validation=False).validation.stage == "fit"


def test_loaders_of_a_fit_are_made_without_a_global_random_number(tmp_path):
    class Random(Toy):
        def train_dataloader(self):
            torch.rand(1)
            return loader(shuffle=True)

        def val_dataloader(self):
            return loader(60)

    found = {}

    class Asking(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            state = torch.get_rng_state()
            found["train"] = probe_loader(trainer, "train", 0)
            found["val"] = probe_loader(trainer, "val", 0)
            found["same state"] = torch.equal(torch.get_rng_state(), state)

    trainer(tmp_path, callbacks=[Asking()], max_epochs=1).fit(Random())
    assert found["same state"]
    assert len(found["train"].dataset) == 100
    assert len(found["val"].dataset) == 60


def test_a_batch_and_a_call_go_the_way_of_a_step(tmp_path):
    class Doubling(Toy):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return [2 * batch[0], batch[1]]

    found = []

    class Passing(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            batch = batch_on_device(trainer, pl_module, next(iter(loader(60))))
            found.append((batch[0], next(iter(loader(60)))[0]))
            call_through_wrapper(trainer, pl_module, "forward", batch[0])

    fitted(tmp_path, Passing(), model=Doubling(), val=loader(60), max_epochs=1)
    ((given, loaded),) = found
    assert torch.equal(given, 2 * loaded)


def test_compiled_modules_are_distinguished():
    assert not is_compiled(nn.Linear(2, 2))
    assert is_compiled(torch.compile(nn.Linear(2, 2)))
    net = nn.Linear(2, 2)
    net.compile()
    assert is_compiled(net)
