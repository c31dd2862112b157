"""Facts read from a Trainer that nothing documents: each is seen in a fit as it runs."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_id import AtSteps, History, IntrinsicDimensionCallback
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
from lightning_id.functional import twonn_dimension
from lightning_id.history import BEFORE_TRAINING
from lightning_id.recording.samples import choose_samples
from tests.toys import Toy, averaged_weights, count_hooks, fitted, loader, toy_data, trainer


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


# --- measured apart from the validation: another set, or between training steps -------------------


LAYERS = ["input", "net.5"]


class Augmented(Dataset):
    """Draws from the global generator, as torchvision's transforms do."""

    def __init__(self, n):
        self.data = toy_data(n, seed=3)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        x, y = self.data[i]
        return x + 0.1 * torch.randn(x.shape), y


class Careful(Toy):
    """Notes in what surroundings the forward pass runs, and augments after the transfer."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def forward(self, x):
        self.seen.add((self.net[7].training, torch.is_grad_enabled(), self.trainer.training))
        return self.net(x)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        if self.trainer.training:
            batch[0] = batch[0] + torch.rand(1)
        return batch


def train(folder, callback=None, kind=Toy, **kwargs):
    pl.seed_everything(5, verbose=False)
    model = kind()
    model.net[1].eval()  # a batch norm that the user froze
    runner = fitted(
        folder,
        *[] if callback is None else [callback],
        model=model,
        train=DataLoader(Augmented(64), 16, shuffle=True),
        **kwargs,
    )
    return model, runner


def values(callback, layer="input"):
    found = callback.history.records
    return [r["value"] for r in found if (r["layer"], r["estimator"]) == (layer, "twonn")]


def expected(n, seed, k):
    return twonn_dimension(toy_data(n, seed).tensors[0].flatten(1)[choose_samples(n, k, 0)]).value


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"data": {"probe": DataLoader(Augmented(50), 8, shuffle=True)}},
        lambda: {"data": ["train"]},
        lambda: {"data": ["val"]},
        lambda: {"schedule": AtSteps([0, 1, 2, 5])},
    ],
)
def test_the_training_is_the_same_to_the_last_bit(make, tmp_path):
    plain, _ = train(tmp_path, kind=Careful, num_sanity_val_steps=-1)
    callback = IntrinsicDimensionCallback(**make(), n_samples=30)
    watched, _ = train(tmp_path, callback, kind=Careful, num_sanity_val_steps=-1)
    assert len(callback.history.validations()) >= 3
    for name, value in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[name], value), name
    assert [m.training for m in watched.modules()] == [m.training for m in plain.modules()]
    assert count_hooks(watched) == 0


def test_a_probe_is_measured_in_place_of_the_validation_samples(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, data={"probe": loader(80, seed=9)}, n_samples=30)
    train(tmp_path, callback)
    assert values(callback) == [expected(80, 9, 30)] * 2
    assert {r["data"] for r in callback.history.records} == {"probe"}
    assert "val_acc" in {m["name"] for m in callback.history.metrics}


def test_the_loaders_of_the_fit_are_probes_by_name(tmp_path):
    for name, size, seed in (("val", 60, 1), ("train", 64, 3)):
        callback = IntrinsicDimensionCallback(LAYERS, data=[name], n_samples=40)
        pl.seed_everything(0, verbose=False)
        fitted(tmp_path, callback, train=loader(64, seed=3, shuffle=True), num_sanity_val_steps=-1)
        assert values(callback) == [expected(size, seed, 40)] * 3  # one before training
        assert {r["data"] for r in callback.history.records} == {name}


def test_the_probe_passes_in_eval_mode_without_gradients_and_unaugmented(tmp_path):
    callback = IntrinsicDimensionCallback(
        LAYERS, schedule=AtSteps([1, 3]), data={"probe": loader(40)}
    )
    model, _ = train(tmp_path, callback, kind=Careful)
    assert model.seen == {(False, False, False)}
    assert values(callback) == [expected(40, 0, 40)] * 2


def test_steps_are_measured_between_validations_and_logged_there(tmp_path):
    callback = IntrinsicDimensionCallback(
        LAYERS, schedule=AtSteps([0, 1, 2], then_every=3), charts=False
    )
    logger = CSVLogger(tmp_path)
    train(tmp_path, callback, logger=logger)  # 2 epochs of 4 batches
    assert [step for _, _, step in callback.history.validations()] == [0, 1, 2, 3, 6]
    assert values(callback) == [expected(60, 1, 60)] * 5
    layer = values(callback, "net.5")
    assert len(set(layer)) == 5
    text = Path(logger.experiment.metrics_file_path).read_text()
    rows = [line.split(",") for line in text.splitlines()]
    column, steps = rows[0].index("id_twonn/net.5"), rows[0].index("step")
    logged = [(int(row[steps]), float(row[column])) for row in rows[1:] if row[column]]
    assert logged == list(zip([0, 1, 2, 3, 6], layer, strict=True))
    assert str(History.load(logger.log_dir).records) == str(callback.history.records)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_a_probe_passes_unseen_by_another_instance(order, tmp_path):
    def fit(*callbacks):
        pl.seed_everything(5, verbose=False)
        fitted(tmp_path, *callbacks[order], train=loader(64, seed=3), num_sanity_val_steps=-1)

    alone = IntrinsicDimensionCallback(LAYERS)
    fit(alone)
    both = (
        IntrinsicDimensionCallback(LAYERS),
        IntrinsicDimensionCallback(LAYERS, data=["train"], prefix="train_"),
    )
    fit(*both)
    for key in ("layer", "value", "n_samples", "note"):
        found = [r[key] for r in both[0].history.records]
        assert str(found) == str([r[key] for r in alone.history.records]), key
    assert values(both[0]) == [expected(60, 1, 60)] * 3
    assert values(both[1]) == [expected(64, 3, 64)] * 3
    assert {r["note"] for r in both[1].history.records} == {None}


@pytest.mark.parametrize("n_sanity", [0, 2, -1])
def test_the_network_at_step_0_is_the_untrained_one_and_measured_once(n_sanity, tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, schedule=AtSteps([0, 1]))
    train(tmp_path, callback, num_sanity_val_steps=n_sanity)
    assert values(callback)[0] == expected(60, 1, 60)
    assert len(values(callback)) == 2
    assert [(stage, step) for stage, _, step in callback.history.validations()] == [
        ("before_training", 0),
        ("fit", 1),
    ]


def test_a_step_is_measured_once_while_gradients_accumulate_and_after_resuming(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, schedule=AtSteps([0, 1, 2, 3, 4]))
    _, runner = train(tmp_path, callback, accumulate_grad_batches=2)
    assert [step for _, _, step in callback.history.validations()] == [0, 1, 2, 3, 4]
    runner.save_checkpoint(tmp_path / "last.ckpt")
    again = IntrinsicDimensionCallback(LAYERS, schedule=AtSteps([0, 1, 2, 3, 4], then_every=1))
    fitted(tmp_path, again, train=loader(64), ckpt_path=tmp_path / "last.ckpt", max_epochs=3)
    assert [step for _, _, step in again.history.validations()] == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_a_probe_that_cannot_be_had_is_a_warning(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(toy_data(64))

    callback = IntrinsicDimensionCallback(LAYERS, data=["train"])
    with pytest.warns(UserWarning, match="expected a train loader over a data set of known size"):
        fitted(tmp_path, callback, train=DataLoader(Stream(), 16), val=loader(60), max_epochs=1)
    assert not callback.history.records


def test_a_stream_is_a_probe_of_its_own(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(toy_data(70, seed=9))

    callback = IntrinsicDimensionCallback(
        LAYERS, data={"probe": DataLoader(Stream(), 16)}, n_samples=70
    )
    with pytest.warns(UserWarning, match="a stream of unknown length"):
        train(tmp_path, callback)
    expected_value = twonn_dimension(toy_data(70, 9).tensors[0].flatten(1)).value
    assert values(callback) == pytest.approx([expected_value] * 2, rel=1e-9)


def test_mappings_and_predict_steps_are_given_what_they_expect(tmp_path):
    class Named(Toy):
        def forward(self, image, label):
            assert len(image) == len(label)
            return self.net(image)

    class Predicting(Toy):
        def predict_step(self, batch, batch_idx):
            return self.net(batch["image"])

    rows = [{"image": x, "label": y} for x, y in toy_data(40, seed=9)]
    for kind in (Named, Predicting):
        callback = IntrinsicDimensionCallback(LAYERS, data={"probe": DataLoader(rows, 16)})
        train(tmp_path, callback, kind=kind)
        assert values(callback) == [expected(40, 9, 40)] * 2


def test_a_module_without_a_forward_raises_with_the_way_out(tmp_path):
    class Formless(Toy):
        forward = pl.LightningModule.forward

    callback = IntrinsicDimensionCallback(LAYERS, data={"probe": loader(20)})
    with pytest.warns(UserWarning, match="expected Formless to have a forward or a predict_step"):
        train(tmp_path, callback, kind=Formless)


def test_averaged_weights_are_probed_wherever_the_callback_stands(tmp_path):
    found = []
    for first in (True, False):
        callback = IntrinsicDimensionCallback(["net.5"], data={"probe": loader(50, seed=9)})
        averaging = averaged_weights(0.5)
        pl.seed_everything(0, verbose=False)
        callbacks = [callback, averaging] if first else [averaging, callback]
        fitted(tmp_path, *callbacks, train=loader(64), val=loader(60))
        found.append(values(callback, "net.5"))
    assert found[0] == found[1]


def test_everything_is_found_as_it_was_after_an_exception(tmp_path):
    class Failing(Toy):
        def forward(self, x):
            torch.rand(3)
            raise ZeroDivisionError

    plain, _ = train(tmp_path)
    callback = IntrinsicDimensionCallback(["net.5"], data={"probe": loader(20)})
    with pytest.warns(UserWarning, match="could not pass the samples"):
        model, _ = train(tmp_path, callback, kind=Failing)
    for name, value in plain.state_dict().items():  # the random numbers were given back too
        assert torch.equal(model.state_dict()[name], value), name
    assert not model.net[1].training
    assert isinstance(model.net[7], nn.Dropout)
    assert model.net[7].training
    assert count_hooks(model) == 0
