"""The main experiment on the full MNIST: 240 steps of it, and all of it where there is time."""

import csv
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_id import History
from lightning_id.__main__ import main

CONFIG = Path(__file__).parents[2] / "configs" / "mnist.yaml"
LAYERS = ["input", "conv1", "pool1", "conv2", "pool2", "d1", "output"]

pytestmark = pytest.mark.full_mnist


# The images that are measured are the first 2000 that are tested.
SHORT = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=240", "--data.n_val=2000"]


def trained(mnist_root, folder, *options):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["lightning-id"])
        main(["fit", "--config", str(CONFIG), f"--data.root={mnist_root}", *options])
    return folder / "runs" / "mnist"


@pytest.fixture(scope="module")
def run(mnist_root, tmp_path_factory):
    """The folder of a fit of 240 steps: the last hidden layer has folded up by then."""
    return trained(mnist_root, tmp_path_factory.mktemp("mnist"), *SHORT)


@pytest.fixture(scope="module")
def history(run):
    return History.load(run / "version_0" / "history.csv")


def curve(history, layer, estimator="twonn"):
    return [
        r["value"] for r in history.records if (r["layer"], r["estimator"]) == (layer, estimator)
    ]


def test_the_last_hidden_layer_folds_up(history):
    d1 = curve(history, "d1")
    assert 13 < d1[0] < 16
    assert d1[-1] < 10
    assert d1[-1] < 0.75 * d1[0]
    assert {r["role"] for r in history.records if r["layer"] == "d1"} == {"last_hidden"}


def test_the_untrained_network_is_flat(history):
    before = [curve(history, layer)[0] for layer in LAYERS[:-1]]  # the output has 10 units
    assert max(before) < 1.3 * min(before)


def test_the_input_is_that_of_the_source_work_and_never_changes(history):
    values = curve(history, "input")
    assert len(values) == 2
    assert len(set(values)) == 1
    assert values[0] == pytest.approx(13.21, abs=0.02)
    assert set(curve(history, "input", "pca")) == {84}


@pytest.mark.parametrize("layer", ["input", "pool1", "pool2"])
def test_pca_is_far_above_twonn(history, layer):
    assert curve(history, layer, "pca")[-1] > 4 * curve(history, layer)[-1]


def test_all_curves_are_in_the_event_file(run, history):
    events = EventAccumulator(str(run / "version_0"))
    events.Reload()
    for layer in LAYERS:
        for estimator in ("twonn", "pca"):
            logged = [point.value for point in events.Scalars(f"id_{estimator}/{layer}")]
            assert logged == pytest.approx(curve(history, layer, estimator), rel=1e-6)
    assert len(events.Scalars("val_acc")) == 1
    assert len(events.Scalars("id/last_hidden")) == 2
    assert (run / "version_0" / "profile.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_epochs_reach_the_accuracy_and_the_fold_of_a_trained_network(mnist_root, tmp_path):
    run = trained(mnist_root, tmp_path)
    with (run / "csv" / "version_0" / "metrics.csv").open() as file:
        accuracies = [float(row["val_acc"]) for row in csv.DictReader(file) if row["val_acc"]]
    assert len(accuracies) == 5
    assert accuracies[-1] >= 0.987
    d1 = curve(History.load(run / "version_0" / "history.csv"), "d1")
    assert len(d1) == 6
    assert d1[-1] < 10
    assert d1[-1] < 0.75 * d1[0]
