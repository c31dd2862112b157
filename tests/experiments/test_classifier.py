"""The classifier's losses, accuracies and optimisers, and the network of Ansuini et al. (2019)."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import log_softmax, nll_loss
from torch.utils.data import DataLoader, TensorDataset

from lightning_id.experiments.classifier import Classifier
from lightning_id.experiments.networks import MNISTNet

FEATURES = {
    "conv1": 32 * 26 * 26,
    "pool1": 5408,
    "conv2": 64 * 11 * 11,
    "pool2": 1600,
    "d1": 128,
    "output": 10,
}


def random_loader(n: int = 24, batch_size: int = 8) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 1, 28, 28, generator=generator)
    labels = torch.randint(10, (n,), generator=generator)
    return DataLoader(TensorDataset(images, labels), batch_size=batch_size)


def trainer(tmp_path, **arguments) -> pl.Trainer:
    defaults = {
        "accelerator": "cpu",
        "default_root_dir": tmp_path,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return pl.Trainer(**{**defaults, **arguments})


def linear_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


# --- the network ----------------------------------------------------------------------------------


def outputs_by_name(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    outputs = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda m, i, out, name=name: outputs.update({name: out}))
    network(x)
    return outputs


def test_the_named_layers_have_the_widths_of_the_source_work():
    outputs = outputs_by_name(MNISTNet(), torch.randn(2, 1, 28, 28))
    assert {name: out.flatten(1).shape[1] for name, out in outputs.items()} == FEATURES
    assert list(outputs) == list(FEATURES)


def test_pooling_and_d1_are_after_the_relu_and_the_convolutions_before_it():
    outputs = outputs_by_name(MNISTNet(), torch.randn(2, 1, 28, 28))
    assert {name for name, out in outputs.items() if out.min() >= 0} == {"pool1", "pool2", "d1"}


def test_pool1_is_the_relu_of_the_pooled_conv1():
    outputs = outputs_by_name(MNISTNet(), torch.randn(2, 1, 28, 28))
    assert torch.equal(outputs["pool1"], nn.functional.max_pool2d(outputs["conv1"], 2).clamp(min=0))


def test_the_network_has_as_many_parameters_as_the_source_works():
    # conv1 320, conv2 18496, fc1 204928, fc2 1290
    assert sum(p.numel() for p in MNISTNet().parameters()) == 320 + 18496 + 204928 + 1290


def test_no_layer_changes_in_training_mode():
    network, x = MNISTNet(), torch.randn(2, 1, 28, 28)
    assert torch.equal(network.train()(x), network.eval()(x))


# --- what is logged -------------------------------------------------------------------------------


def test_the_loss_is_that_of_log_softmax_and_negative_log_likelihood():
    model, batch = Classifier(MNISTNet()), next(iter(random_loader()))
    ours = model.training_step(batch, 0)
    theirs = nll_loss(log_softmax(model.network(batch[0]), dim=1), batch[1])
    torch.testing.assert_close(ours, theirs)


def test_loss_and_accuracy_of_a_validation_are_those_of_all_its_images(tmp_path):
    # 20 images in batches of 8: the last batch is smaller, and must weigh less.
    model, loader = Classifier(linear_network()), random_loader(n=20)
    logged = trainer(tmp_path).validate(model, loader, verbose=False)[0]
    images, labels = loader.dataset.tensors
    logits = model(images)
    assert logged["val_acc"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert logged["val_loss"] == pytest.approx(
        nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )


def test_a_fit_logs_train_loss_train_acc_val_loss_and_val_acc(tmp_path):
    run = trainer(tmp_path)
    run.fit(Classifier(linear_network()), random_loader(), random_loader())
    assert {"train_loss", "train_acc", "val_loss", "val_acc"} <= set(run.callback_metrics)


def test_a_test_logs_test_loss_and_test_acc(tmp_path):
    logged = trainer(tmp_path).test(Classifier(linear_network()), random_loader(), verbose=False)[0]
    assert set(logged) == {"test_loss", "test_acc"}


def test_training_lowers_the_loss_on_its_own_images(tmp_path):
    model, loader = Classifier(linear_network(), lr=0.05), random_loader()
    run = trainer(tmp_path, max_epochs=20)
    before = run.validate(model, loader, verbose=False)[0]
    run.fit(model, loader)
    after = run.validate(model, loader, verbose=False)[0]
    assert after["val_loss"] < before["val_loss"] / 2
    assert after["val_acc"] == 1


# --- the optimiser --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_the_optimiser_has_the_given_rate_and_decay(name, kind):
    model = Classifier(linear_network(), optimizer=name, lr=0.125, weight_decay=0.25)
    optimizer = model.configure_optimizers()
    assert type(optimizer) is kind
    assert optimizer.defaults["lr"] == 0.125
    assert optimizer.defaults["weight_decay"] == 0.25


def test_the_momentum_is_that_of_sgd():
    model = Classifier(linear_network(), momentum=0.5)
    assert model.configure_optimizers().defaults["momentum"] == 0.5


def test_final_lr_is_the_rate_after_the_last_step(tmp_path):
    model = Classifier(linear_network(), optimizer="adam", lr=1e-3, final_lr=1e-4)
    run = trainer(tmp_path, max_epochs=2)
    run.fit(model, random_loader())
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4)


def test_the_rate_falls_by_the_same_factor_at_each_step_after_the_share_it_is_held(tmp_path):
    model = Classifier(linear_network(), lr=1.0, final_lr=0.01, hold=0.5)
    run = trainer(tmp_path, max_epochs=4)
    rates = []
    model.on_train_batch_start = lambda *_: rates.append(run.optimizers[0].param_groups[0]["lr"])
    run.fit(model, random_loader())
    half = len(rates) // 2
    assert rates[: half + 1] == [1.0] * (half + 1)
    ratios = [b / a for a, b in zip(rates[half:-1], rates[half + 1 :], strict=True)]
    assert ratios == pytest.approx([0.01 ** (1 / half)] * (half - 1))


@pytest.mark.parametrize("hold", [-0.1, 1])
def test_a_share_that_is_none_is_an_error(hold):
    with pytest.raises(ValueError, match="expected a share in"):
        Classifier(linear_network(), hold=hold)


def test_without_final_lr_the_rate_stays(tmp_path):
    model = Classifier(linear_network(), lr=0.125)
    run = trainer(tmp_path)
    run.fit(model, random_loader())
    assert run.optimizers[0].param_groups[0]["lr"] == 0.125


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_is_readable_with_weights_only_and_gives_the_model_back(tmp_path):
    model = Classifier(linear_network(), lr=0.125, optimizer="adam")
    run = trainer(tmp_path)
    run.fit(model, random_loader())
    run.save_checkpoint(tmp_path / "end.ckpt")
    assert torch.load(tmp_path / "end.ckpt", weights_only=True)["hyper_parameters"]["lr"] == 0.125
    again = Classifier.load_from_checkpoint(tmp_path / "end.ckpt", network=linear_network())
    assert (again.lr, again.optimizer_name) == (0.125, "adam")
    images = random_loader().dataset.tensors[0]
    assert torch.equal(again(images), model(images))
