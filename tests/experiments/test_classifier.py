"""The classifier's losses, accuracies, optimisers and checkpoints."""

import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax, nll_loss
from torch.utils.data import DataLoader, TensorDataset

from lightning_id.experiments.classifier import Classifier
from lightning_id.experiments.networks import MNISTNet
from tests.toys import fitted, trainer


def random_loader(n: int = 24, batch_size: int = 8) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 1, 28, 28, generator=generator)
    labels = torch.randint(10, (n,), generator=generator)
    return DataLoader(TensorDataset(images, labels), batch_size=batch_size)


def linear_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


# --- what is logged -------------------------------------------------------------------------------


def test_the_loss_is_that_of_log_softmax_and_negative_log_likelihood():
    model, batch = Classifier(MNISTNet()), next(iter(random_loader()))
    ours = model.training_step(batch, 0)
    theirs = nll_loss(log_softmax(model.network(batch[0]), dim=1), batch[1])
    torch.testing.assert_close(ours, theirs)


def test_loss_and_accuracy_of_a_validation_are_of_all_its_images(tmp_path):
    # 20 images in batches of 8: the last batch is smaller, and must weigh less.
    model, loader = Classifier(linear_network()), random_loader(n=20)
    logged = trainer(tmp_path, max_epochs=1).validate(model, loader, verbose=False)[0]
    images, labels = loader.dataset.tensors
    logits = model(images)
    assert logged["val_acc"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert logged["val_loss"] == pytest.approx(
        nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )


def test_a_fit_logs_train_loss_train_acc_val_loss_and_val_acc(tmp_path):
    run = fitted(
        tmp_path,
        model=Classifier(linear_network()),
        train=random_loader(),
        val=random_loader(),
        max_epochs=1,
    )
    assert {"train_loss", "train_acc", "val_loss", "val_acc"} <= set(run.callback_metrics)


def test_a_test_logs_test_loss_and_test_acc(tmp_path):
    logged = trainer(tmp_path, max_epochs=1).test(
        Classifier(linear_network()), random_loader(), verbose=False
    )[0]
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
    run = fitted(tmp_path, model=model, train=random_loader(), val=None, max_epochs=2)
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
    run = fitted(tmp_path, model=model, train=random_loader(), val=None, max_epochs=1)
    assert run.optimizers[0].param_groups[0]["lr"] == 0.125


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_is_readable_with_weights_only_and_gives_the_model_back(tmp_path):
    model = Classifier(linear_network(), lr=0.125, optimizer="adam")
    run = fitted(tmp_path, model=model, train=random_loader(), val=None, max_epochs=1)
    run.save_checkpoint(tmp_path / "end.ckpt")
    assert torch.load(tmp_path / "end.ckpt", weights_only=True)["hyper_parameters"]["lr"] == 0.125
    again = Classifier.load_from_checkpoint(tmp_path / "end.ckpt", network=linear_network())
    assert (again.lr, again.optimizer_name) == (0.125, "adam")
    images = random_loader().dataset.tensors[0]
    assert torch.equal(again(images), model(images))
