"""Every YAML under `configs/` runs: experiments on a few digits, fragments on top of one."""

import csv
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.datasets import CIFAR10

from lightning_id import History
from lightning_id.__main__ import main
from tests.bare import without_data
from tests.image_files import write_cifar, write_idx
from tests.quick import draw_quickly

CONFIGS = Path(__file__).parents[1] / "configs"
MNIST_CONFIG = CONFIGS / "mnist.yaml"
STUDIES = sorted(CONFIGS.glob("study_*.yaml"))  # many trainings each: tests/study runs them
EXPERIMENTS = sorted(set(CONFIGS.glob("*.yaml")) - set(STUDIES))
FRAGMENTS = sorted(CONFIGS.glob("callbacks/*.yaml"))
LAYERS = ["input", "conv1", "pool1", "conv2", "pool2", "d1", "output"]
FEW = [
    "--data.n_train=128",
    "--data.n_val=128",  # expected simplex skewness needs more than 100
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
]
OURS = "lightning_id.IntrinsicDimensionCallback"
CIFAR = ["--data.n_train=32", "--data.n_val=48", "--data.batch_size=16"]  # two steps


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """An empty working folder on a machine with no data and no network."""
    make_bare(monkeypatch, tmp_path)


def make_bare(monkeypatch, folder):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["lightning-id"])
    without_data(monkeypatch, folder)


@pytest.fixture(scope="module")
def runs_of(tmp_path_factory):
    """Return the folder `runs` of a config on a few digits, run when it is first asked for."""
    done = {}

    def run(config):
        if config not in done:
            done[config] = tmp_path_factory.mktemp(config.stem)
            with pytest.MonkeyPatch.context() as patch:
                make_bare(patch, done[config])
                if config != MNIST_CONFIG:
                    draw_quickly(patch)
                main(["fit", "--config", str(config), *FEW, *few_images(config, patch)])
        return done[config] / "runs"

    return run


def few_images(config: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Write a small data set for a config that takes no digits, and return the options for it."""
    if config.stem.startswith("cifar10"):
        return ["--data.root", str(write_cifar(Path("data"), patch, CIFAR10, 40, 50)), *CIFAR]
    if config.stem.startswith("fashion"):
        return ["--data.root", str(write_idx(Path("data"), "FashionMNIST", 200, 150, seed=0))]
    return []


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


def class_paths(callbacks: list[dict]) -> list[str]:
    return [callback["class_path"] for callback in callbacks]


def csv_columns(metrics: Path) -> set[str]:
    """Return the columns that hold at least one number."""
    with metrics.open() as file:
        return {key for row in csv.DictReader(file) for key, value in row.items() if value}


def test_every_config_is_run_by_a_test_of_this_file_or_is_a_study():
    assert sorted(CONFIGS.rglob("*.yaml")) == sorted(EXPERIMENTS + FRAGMENTS + STUDIES)
    assert not list(CONFIGS.rglob("*.yml"))


def test_an_experiment_runs_one_batch_of_everything():
    main(["fit", "--config", str(MNIST_CONFIG), "--trainer.fast_dev_run=true"])


@pytest.mark.parametrize("config", EXPERIMENTS, ids=name)
def test_an_experiment_runs_on_a_few_digits_and_saves_its_config(config, runs_of):
    assert len(list(runs_of(config).rglob("config.yaml"))) == 1
    assert len(list(runs_of(config).rglob("*.ckpt"))) == 1


@pytest.fixture
def mnist_run(runs_of):
    return runs_of(MNIST_CONFIG) / "mnist"


def test_mnist_writes_the_dimension_of_the_seven_layers_to_csv_and_event_file(mnist_run):
    columns = csv_columns(mnist_run / "csv" / "version_0" / "metrics.csv")
    events = EventAccumulator(str(mnist_run / "version_0"))
    events.Reload()
    expected = {f"{kind}/{layer}" for kind in ("id_twonn", "id_pca") for layer in LAYERS}
    assert expected <= columns
    assert expected <= set(events.Tags()["scalars"])


def test_mnist_puts_accuracy_and_dimension_into_one_row(mnist_run):
    with (mnist_run / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_acc"]]
    assert rows
    assert all(row["id_twonn/d1"] for row in rows)


@pytest.fixture
def plain(tmp_path):
    """The file of the experiment without our callback: a project to stack a fragment on."""
    content = yaml.safe_load(MNIST_CONFIG.read_text())
    own = [c for c in content["trainer"]["callbacks"] if c["class_path"] != OURS]
    content["trainer"]["callbacks"] = own
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_two_loggers_of_mnist_count_their_versions_alike(mnist_run, plain, tmp_path):
    shutil.copytree(mnist_run, tmp_path / "runs" / "mnist")
    mnist_run = tmp_path / "runs" / "mnist"
    main(["fit", "--config", str(plain), *FEW])
    assert {p.name for p in mnist_run.iterdir()} == {"csv", "version_0", "version_1"}
    assert {p.name for p in (mnist_run / "csv").iterdir()} == {"version_0", "version_1"}


def test_shuffled_measures_test_and_training_images_and_keeps_both_histories(runs_of):
    run = runs_of(CONFIGS / "mnist_shuffled.yaml") / "mnist_shuffled" / "version_0"
    for folder, data, n_samples in ((run, "val", 128), (run / "train", "train", 128)):
        history = History.load(folder)
        assert [stage for stage, _, _ in history.validations()] == ["before_training", "fit"]
        assert {(r["data"], r["n_samples"]) for r in history.records} == {(data, n_samples)}
        assert [r["layer"] for r in history.at(history.validations()[-1], "twonn")] == LAYERS
        assert (folder / "profile.png").exists()


def test_luminance_has_the_last_offset_in_validation_and_an_offset_each_epoch_in_training():
    config = yaml.safe_load((CONFIGS / "mnist_luminance.yaml").read_text())
    offsets = config["data"]["init_args"]["offsets"]
    assert offsets == sorted(offsets)
    assert offsets[-1] == 1000
    assert len(offsets) < config["trainer"]["max_epochs"]
    assert config["trainer"]["reload_dataloaders_every_n_epochs"] == 1


@pytest.mark.parametrize("config", ["cifar10_vgg16", "cifar10_resnet18", "fashion_mnist"])
def test_colour_and_fashion_are_measured_before_and_after_training_in_every_layer(config, runs_of):
    history = History.load(runs_of(CONFIGS / f"{config}.yaml") / config / "version_0")
    stages = [stage for stage, _, _ in history.validations()]
    assert (stages[0], stages[-1]) == ("before_training", "fit")
    last = history.at(history.validations()[-1], "twonn")
    assert last[0]["layer"] == "input"
    assert len(last) >= 7
    assert {record["n_samples"] for record in last} == {128 if config == "fashion_mnist" else 48}


def test_dynamics_is_measured_at_the_steps_of_its_config(runs_of):
    runs = runs_of(CONFIGS / "mnist_dynamics.yaml")
    history = History.load(runs / "mnist_dynamics" / "version_0")
    assert [step for _, _, step in history.validations()] == [0, 2]


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=name)
def test_a_fragment_adds_its_callbacks_and_keeps_the_ones_of_the_config(
    fragment, plain, monkeypatch
):
    draw_quickly(monkeypatch)
    own = yaml.safe_load(plain.read_text())["trainer"]["callbacks"]
    main(["fit", "--config", str(plain), "--config", str(fragment), *FEW])
    saved = yaml.safe_load(next(Path("runs").rglob("config.yaml")).read_text())
    added = yaml.safe_load(fragment.read_text())["trainer"]["callbacks+"]
    assert class_paths(saved["trainer"]["callbacks"]) == class_paths(own) + class_paths(added)
    columns = csv_columns(next(Path("runs").rglob("metrics.csv")))
    assert [column for column in columns if column.startswith("id_twonn/")]
