"""The files of one training, and the history of its callbacks, without a training."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from lightning_id import IntrinsicDimensionCallback
from lightning_id.study.grid import load_study, trainings_of
from lightning_id.study.training import CONFIG, TRAINING, _history_of, prepare, write_json
from tests.study.helpers import CALLBACK, content
from tests.toys import trainer

WIDTH, SEED = "model.init_args.width", "seed_everything"


def prepared(folder, **changes):
    """Return the two files of a training."""
    made = content({WIDTH: [4], SEED: [0]})
    made["base"] = made["base"] | {"trainer": made["base"]["trainer"] | changes}
    study = load_study(made)
    (training,) = trainings_of(study)
    prepare(folder, training, study)
    return json.loads((folder / TRAINING).read_text()), yaml.safe_load(
        (folder / CONFIG).read_text()
    )


def test_the_files_of_a_training_hold_all_that_its_process_reads(tmp_path):
    spec, config = prepared(tmp_path / "runs" / "a")
    assert spec["label"] == f"{WIDTH} 4, {SEED} 0"
    assert spec["callback"] == CALLBACK
    assert spec["metrics"] == ["val_acc"]
    assert spec["cli"] is None
    assert config["model"] == {"class_path": "mine.Net", "init_args": {"width": 4}}
    assert config["seed_everything"] == 0


CSV = {"class_path": "CSVLogger", "init_args": {"save_dir": "logs", "name": "mine"}}


@pytest.mark.parametrize("loggers", [CSV, [CSV, {"class_path": "TensorBoardLogger"}], True, False])
def test_trainer_and_loggers_write_into_the_folder_of_the_training(loggers, tmp_path):
    _, config = prepared(tmp_path, logger=loggers)
    assert config["trainer"]["default_root_dir"] == str(tmp_path)
    found = config["trainer"]["logger"]
    for logger, given in (
        zip(found, loggers, strict=True) if isinstance(loggers, list) else [(found, loggers)]
    ):
        if given is CSV:
            assert logger["init_args"] == {"save_dir": str(tmp_path), "name": "mine"}
        else:
            assert logger == given
    assert CSV["init_args"]["save_dir"] == "logs"  # what was given is not changed


def test_a_file_of_results_appears_whole_in_place_of_the_one_before(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"n": 1})
    with pytest.raises(TypeError):
        write_json(path, {"n": object()})
    assert json.loads(path.read_text()) == {"n": 1}
    write_json(path, {"n": 2})
    assert json.loads(path.read_text()) == {"n": 2}
    assert [each.name for each in Path(tmp_path).iterdir()] == ["result.json"]


def test_histories_of_several_callbacks_are_one():
    callbacks = [IntrinsicDimensionCallback(prefix=prefix) for prefix in ("", "train/")]
    for callback, data in zip(callbacks, ("val", "train"), strict=True):
        history = callback.history
        history.append(stage="fit", epoch=0, step=9, data=data, layer="a", estimator="twonn")
        history.append_metrics(("fit", 0, 9), {"val_acc": 0.5})
        history.keep_spectra(("fit", 0, 9), {"a": torch.ones(3)}, data)
    merged = _history_of(trainer(".", callbacks=callbacks))
    assert [record["data"] for record in merged.records] == ["val", "train"]
    assert [metric["name"] for metric in merged.metrics] == ["val_acc"]  # once
    assert set(merged.spectra_by_set) == {"val", "train"}
