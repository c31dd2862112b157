"""The command `lightning-id`, called as a user does and as a function."""

import csv
import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml

from lightning_id.cli import main
from tests.bare import without_data
from tests.commands import refused
from tests.processes import in_process

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


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """An empty working folder on a machine with no data and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning-id"])
    without_data(monkeypatch, tmp_path)


@pytest.fixture
def plain(tmp_path) -> str:
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(PLAIN))
    return str(path)


def last_val_acc() -> float:
    with Path("runs/plain/version_0/metrics.csv").open() as file:
        return [float(row["val_acc"]) for row in csv.DictReader(file) if row["val_acc"]][-1]


def test_the_version_is_shown(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    name, version = capsys.readouterr().out.split()
    assert name == "lightning-id"
    assert version[0].isdigit()


def refusals(words: list[str], package: str) -> str:
    """Return the message of a command without a package, in a process of its own."""
    for name in [n for n in sys.modules if n.split(".")[0] in ("lightning_id", package)]:
        del sys.modules[name]
    sys.modules[package] = None
    with pytest.raises(SystemExit) as stop:
        importlib.import_module("lightning_id.cli").main(words)
    return stop.value.code


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (["--help"], "jsonargparse", "experiments"),
        (["fit"], "jsonargparse", "experiments"),
        (["report", "--help"], "plotly", "report"),
        (["study", "--help"], "rich", "study"),
        (["profile", "--help"], "torchvision", "pretrained"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(words, package, extra):
    command = f" {words[0]}" if words[-1] == "--help" and len(words) > 1 else ""
    assert re.sub(r"package \w+[.\w]*", "package", in_process(refusals, words, package)) == (
        f'`lightning-id{command}` needs the package: pip install "lightning-id[{extra}]", from a'
        f' clone pip install ".[{extra}]"'
    )


COMMANDS = ("fit", "validate", "test", "predict", "report", "profile", "study")


def test_help_names_the_subcommands(capsys, monkeypatch, recwarn):
    monkeypatch.setattr(sys, "argv", ["lightning-id", "--help"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {name} " in shown for name in COMMANDS)
    assert not [w for w in recwarn if "args parameter" in str(w.message)]


def test_a_command_that_does_not_exist_is_told_all_that_do(capsys):
    message = refused(["reprot", "x"], capsys)
    assert all(f"'{name}'" in message for name in COMMANDS)


def test_a_command_of_ours_after_an_option_of_the_trainer_is_refused(capsys, plain):
    assert "expected the command first" in refused(["--config", plain, "report", "x"], capsys)


def test_without_a_subcommand_it_ends_with_an_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert "expected" in capsys.readouterr().err


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


def test_the_same_command_gives_the_same_accuracy(plain):
    main(["fit", "--config", plain])
    first = last_val_acc()
    Path("runs/plain/version_0/metrics.csv").unlink()
    main(["fit", "--config", plain])
    assert last_val_acc() == first


def test_a_second_run_into_the_same_folder_replaces_the_saved_config(plain):
    main(["fit", "--config", plain])
    main(["fit", "--config", plain, "--model.lr=0.125"])
    saved = yaml.safe_load(Path("runs/plain/version_0/config.yaml").read_text())
    assert saved["model"]["init_args"]["lr"] == 0.125


def test_a_saved_config_runs_again(plain):
    main(["fit", "--config", plain])
    Path("runs/plain/version_0/config.yaml").rename("again.yaml")
    main(["fit", "--config", "again.yaml"])
    assert Path("runs/plain/version_0/config.yaml").exists()


def test_validating_the_checkpoint_gives_the_accuracy_that_training_ended_with(plain):
    main(["fit", "--config", plain])
    trained = last_val_acc()
    checkpoint = str(next(Path("runs").rglob("*.ckpt")).rename("end.ckpt"))
    Path("runs/plain/version_0/metrics.csv").unlink()
    main(["validate", "--config", plain, "--ckpt_path", checkpoint])
    assert last_val_acc() == trained


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


def test_no_warning_asks_for_worker_processes(plain, recwarn):
    main(["fit", "--config", plain])
    assert not [w for w in recwarn if "workers" in str(w.message)]
