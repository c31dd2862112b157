"""A network is profiled on images or rows of a file: its numbers, classes, labels and options."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_id import record_activations
from lightning_id.functional import ESTIMATORS, Geometry
from lightning_id.profile.images import Prepared, choose_images
from lightning_id.profile.networks import load_network
from tests.profile.photographs import measured, values

pytestmark = pytest.mark.usefixtures("photographs")


def test_the_numbers_equal_the_functional_on_the_same_rows():
    history = measured("Colours")
    network = load_network("nets_of_profile:Colours", image_size=16)
    inputs = Prepared(choose_images("photos"), network.transform)
    layers = ["input", "features.2", "pool", "hidden", "fc"]
    with record_activations(network.module.eval(), layers) as rows, torch.no_grad():
        for batch in DataLoader(inputs, batch_size=5):
            network.module(batch[0])
    for estimator in ("twonn", "pca"):
        expected = {name: float(ESTIMATORS[estimator](Geometry(rows[name]))) for name in layers}
        assert values(history, estimator) == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_the_same_seed_gives_the_same_numbers():
    first, again = (values(measured("Rows", "rows.npy", seed=1)) for _ in range(2))
    assert first == again
    assert values(measured("Rows", "rows.npy", seed=2)) != first


def test_the_accuracy_is_the_share_of_right_answers_and_has_the_stage_of_its_network():
    history = measured("Always0", weights="both")
    assert [(m["stage"], m["name"]) for m in history.metrics] == [
        ("before_training", "val_acc"),
        ("validate", "val_acc"),
    ]
    assert history.metrics[1]["value"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("model", ["two_outputs", "Pair"])
def test_there_is_no_accuracy_where_labels_do_not_fit_the_output(model):
    history = measured(model)
    assert history.metrics == []
    assert values(history)


def test_inputs_of_a_file_are_measured_as_they_are():
    rows = torch.from_numpy(np.load("rows.npy")).float()
    expected = float(ESTIMATORS["twonn"](Geometry(rows)))
    assert values(measured("Rows", "rows.npy"))["input"] == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_whole_numbers_of_a_file_are_token_ids(dtype):
    np.save("ids.npy", np.random.default_rng(0).integers(0, 50, (40, 4)).astype(dtype))
    history = measured("Words", "ids.npy", layers=["0", "2"])
    assert math.isfinite(values(history)["2"])


def test_uint8_of_a_file_is_pixels():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 6), dtype=np.uint8)
    np.save("pixels.npy", pixels)
    expected = float(ESTIMATORS["twonn"](Geometry(torch.from_numpy(pixels).float())))
    assert values(measured("Rows", "pixels.npy"))["input"] == pytest.approx(expected)


def test_a_layer_that_is_called_input_keeps_its_whole_name():
    assert set(values(measured("Flat", "rows.npy"))) == {"input", "network.input"}


def test_layers_estimators_and_the_rule_can_be_chosen():
    history = measured(
        "Colours",
        layers=["input", "hidden", "re:features.[02]"],
        reduce="mean",
        estimators=["gride", "twonn_gaussian"],
    )
    assert list(values(history, "gride")) == ["input", "features.0", "features.2", "hidden"]
    assert {r["estimator"] for r in history.records} == {"gride", "twonn_gaussian"}
    assert {r["reduce"] for r in history.records} == {"mean"}


def test_classes_are_measured_by_themselves():
    history = measured("Colours", per_class=12)
    assert {r["label"] for r in history.records} == {None, "class0", "class1", "class2"}
    assert {r["n_samples"] for r in history.records if r["label"]} == {12}


def test_neither_the_batch_size_nor_the_memory_limit_changes_a_number():
    other = measured("Colours", batch_size=5, memory_limit=1e-6)
    assert values(other) == pytest.approx(values(measured("Colours")), rel=1e-5, nan_ok=True)


def test_a_checkpoint_is_measured():
    network = load_network("nets_of_profile:Rows", seed=5).module
    torch.save(network.state_dict(), "weights.pt")
    found = values(measured("Rows", "rows.npy", checkpoint="weights.pt"))
    assert found == values(measured("Rows", "rows.npy", seed=5))
