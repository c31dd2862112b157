"""The three further experiments on the full MNIST: each once, and what must come out."""

import sys
from pathlib import Path

import pytest

from lightning_id.__main__ import main
from reproduction.ansuini2019 import CLAIMS
from reproduction.claims import (
    IN_SHAPE,
    REPRODUCED,
    Run,
    at_end,
    at_start,
    at_step,
    judge,
    profile,
)

CONFIGS = Path(__file__).parents[2] / "configs"

pytestmark = [
    pytest.mark.full_mnist,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
]  # the first of each run trains


def trained(name, mnist_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["lightning-id"])
        main(["fit", "--config", str(CONFIGS / f"{name}.yaml"), f"--data.root={mnist_root}"])
    return Run.load(folder / "runs" / name / "version_0")


@pytest.fixture(scope="module")
def luminance(mnist_root, tmp_path_factory):
    return trained("mnist_luminance", mnist_root, tmp_path_factory)


@pytest.fixture(scope="module")
def shuffled(mnist_root, tmp_path_factory):
    return trained("mnist_shuffled", mnist_root, tmp_path_factory)


@pytest.fixture(scope="module")
def dynamics(mnist_root, tmp_path_factory):
    return trained("mnist_dynamics", mnist_root, tmp_path_factory)


@pytest.mark.parametrize("name", ["luminance", "shuffled", "dynamics"])
def test_every_claim_about_this_run_alone_is_reproduced(name, request):
    run = request.getfixturevalue(name)
    for claim in CLAIMS:
        if claim.needs == (f"mnist_{name}",):
            assert judge(claim, {f"mnist_{name}": run}).verdict in {REPRODUCED, IN_SHAPE}, claim


def test_the_hunchback_appears_with_the_luminance(luminance):
    before, after = at_start(luminance.history), at_end(luminance.history)
    assert 2.5 < after["input"] < 3.5
    assert max(list(before.values())[:-1]) < 1.3 * before["input"]
    assert min(after["conv2"], after["pool2"]) > 2 * after["input"]
    assert after["pool2"] > after["d1"] > after["output"]
    assert luminance.metric("val_acc") >= 0.9
    linear = {
        r["value"]
        for r in luminance.history.records
        if (r["layer"], r["estimator"]) == ("input", "pca")
    }
    assert linear == {1}


def test_the_late_layers_rise_with_shuffled_labels(shuffled):
    train, test = at_end(shuffled.on_train()), at_end(shuffled.history)
    assert shuffled.metric("train_acc") >= 0.99
    assert train["d1"] >= 1.08 * train["input"]
    assert train["d1"] >= 1.2 * train["conv2"]
    assert test["d1"] > test["input"]
    for after, history in ((train, shuffled.on_train()), (test, shuffled.history)):
        before = at_start(history)
        assert after["d1"] / after["conv2"] > before["d1"] / before["conv2"]


def test_the_last_hidden_layer_contracts_fast_and_pool2_expands_slowly(dynamics):
    history = dynamics.history
    start = at_start(history)
    for step in (0, 2, 5):
        hidden = list(at_step(history, step).values())[:-1]
        assert max(hidden) < 1.3 * min(hidden)
        assert at_step(history, step)["d1"] > 0.9 * start["d1"]
    assert at_step(history, 100)["d1"] <= 0.65 * start["d1"]
    pool2 = [profile(history, validation)["pool2"] for validation in history.validations()]
    assert pool2[-1] >= 1.08 * min(pool2)
    steps = [step for _, _, step in history.validations()]
    assert steps == [0, 2, 5, 10, 15, 20, 30, 45, 60, 90, *range(100, 4690, 50)]
