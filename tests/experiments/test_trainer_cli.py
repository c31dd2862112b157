"""The Trainer's commands: runs from YAML, repeated and validated, and mistakes in one line."""

import csv
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import yaml

from lightning_id.__main__ import main
from tests.bare import without_data
from tests.commands import refused

PLAIN = {
    "model": {
        "class_path": "lightning_id.experiments.classifier.Classifier",
        "init_args": {"network": {"class_path": "lightning_id.experiments.networks.MNISTNet"}},
    },
    "data": {
        "class_path": "lightning_id.experiments.mnist.MNISTDataModule",
        "init_args": {"n_train": 128, "n_val": 64},
    },
    "trainer": {
        "max_epochs": 1,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "logger": {
            "class_path": "pytorch_lightning.loggers.CSVLogger",
            "init_args": {"save_dir": "runs", "name": "plain", "version": 0},
        },
    },
}


RUN = Path("runs/plain/version_0")


def make_bare(patch, folder):
    """Work in a folder with a configuration, on a machine with no data and no network."""
    patch.chdir(folder)
    patch.setattr(sys, "argv", ["lightning-id"])
    without_data(patch, folder)
    Path("plain.yaml").write_text(yaml.safe_dump(PLAIN))


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    make_bare(monkeypatch, tmp_path)


@pytest.fixture
def plain(tmp_path) -> str:
    return str(tmp_path / "plain.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, and the warnings of its command."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_bare(patch, folder)
        main(["fit", "--config", "plain.yaml"])
    return folder, [str(warning.message) for warning in caught]


@pytest.fixture
def again(trained):
    """The run once more, in the working folder; returns its last accuracy."""
    shutil.copytree(trained[0] / "runs", "runs")
    accuracy = last_val_acc()
    (RUN / "metrics.csv").unlink()
    return accuracy


def last_val_acc() -> float:
    with (RUN / "metrics.csv").open() as file:
        return [float(row["val_acc"]) for row in csv.DictReader(file) if row["val_acc"]][-1]


def test_a_command_of_ours_after_an_option_of_the_trainer_is_refused(capsys, plain):
    assert "expected the command first" in refused(["--config", plain, "report", "x"], capsys)


def test_an_option_that_does_not_exist_is_named(capsys, plain):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", plain, "--trainer.nonsense=2"])
    assert stop.value.code == 2
    assert "nonsense" in capsys.readouterr().err


def test_the_seed_is_0_unless_it_is_given(capsys, plain):
    for arguments, seed in (([], 0), (["--seed_everything=7"], 7)):
        with pytest.raises(SystemExit):
            main(["fit", "--config", plain, *arguments, "--print_config"])
        assert yaml.safe_load(capsys.readouterr().out)["seed_everything"] == seed


def test_the_same_command_gives_the_same_accuracy(plain, again):
    main(["fit", "--config", plain])
    assert last_val_acc() == again


@pytest.mark.usefixtures("again")
def test_a_saved_config_runs_again_and_a_second_run_in_its_folder_replaces_it():
    (RUN / "config.yaml").rename("again.yaml")
    (RUN / "config.yaml").write_text("of another run")
    main(["fit", "--config", "again.yaml", "--model.lr=0.125"])
    saved = yaml.safe_load((RUN / "config.yaml").read_text())
    assert saved["model"]["init_args"]["lr"] == 0.125


def test_validating_the_checkpoint_gives_the_accuracy_that_training_ended_with(plain, again):
    checkpoint = str(next(Path("runs").rglob("*.ckpt")).rename("end.ckpt"))
    main(["validate", "--config", plain, "--ckpt_path", checkpoint])
    assert last_val_acc() == again


@pytest.mark.parametrize("source", ["root", "LIGHTNING_ID_DATA"])
def test_a_missing_data_root_is_one_line(source, plain, tmp_path, capsys, monkeypatch):
    words, nowhere = ["fit", "--config", plain], str(tmp_path / "nowhere")
    if source == "root":
        words.append(f"--data.root={nowhere}")
    else:
        monkeypatch.setenv(source, nowhere)
    (line,) = [line for line in refused(words, capsys).splitlines() if nowhere in line]
    assert line.startswith("lightning-id: error: Expected MNIST as torchvision stores it in ")
    assert f"in {source}='{nowhere}'" in line


CALLBACK = "lightning_id.IntrinsicDimensionCallback"


OF_CALLBACK = ["fit", f"--trainer.callbacks={CALLBACK}"]


OF_SCHEDULE = [*OF_CALLBACK, "--trainer.callbacks.schedule=lightning_id.AtSteps"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [*OF_CALLBACK, "--trainer.callbacks.n_sample=500"],
            f"{CALLBACK} has no argument 'n_sample'. Close: 'n_samples'",
        ),
        (
            [*OF_SCHEDULE, "--trainer.callbacks.schedule.step=[1]"],
            "lightning_id.AtSteps has no argument 'step'. Close: 'steps'.",
        ),
        (
            ["fit", "--data.init_args.nval=64"],
            "lightning_id.experiments.mnist.MNISTDataModule has no argument 'nval'. Close: 'n_val'",
        ),
        (
            [*OF_CALLBACK, "--trainer.callbacks.n_samples=1"],
            "`n_samples`: expected at least 3, got 1;",
        ),
        ([*OF_CALLBACK, "--trainer.callbacks.estimators=[twon]"], "no estimator named 'twon';"),
        ([*OF_CALLBACK, "--trainer.callbacks.layers=networks.fc"], "No layer of Classifier"),
    ],
)
def test_a_wrong_argument_is_one_line(words, message, plain, capsys):
    shown = refused([words[0], "--config", plain, *words[1:]], capsys).splitlines()
    assert [line for line in shown if line.startswith(f"lightning-id: error: {message}")]
    assert not [line for line in shown if line.startswith(("usage", "Traceback"))]


@pytest.mark.parametrize(
    ("word", "replaced", "message"),
    [
        ("max_epochs", "max_epoch", "no option 'trainer.max_epoch'. Close: 'trainer.max_epochs'"),
        ("trainer", "trainr", "no option 'trainr'. Close: 'trainer'"),
        ("n_train", "n_trian", "MNISTDataModule has no argument 'n_trian'. Close: 'n_train'"),
    ],
)
def test_a_misspelt_key_of_a_file_names_its_neighbour(word, replaced, message, plain, capsys):
    Path(plain).write_text(Path(plain).read_text().replace(f"{word}:", f"{replaced}:"))
    (line,) = refused(["fit", "--config", plain], capsys).splitlines()
    assert line.startswith("lightning-id: error: ")
    assert message in line


def test_no_warning_asks_for_worker_processes(trained):
    assert not [text for text in trained[1] if "workers" in text]
