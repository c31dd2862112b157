"""The table of finished runs, from histories written here."""

import re

import numpy as np
import pandas as pd
import pytest

from lightning_id import History
from lightning_id.study import collect
from lightning_id.study.table import (
    Outcome,
    dimensions,
    has_predictor,
    outcome_of,
    rows_of,
    short_names,
)
from tests.pages import ROOT

PREDICTORS = ["last_hidden", "peak", "peak_depth", "peak_over_last", "pca/last_hidden", "twonn/fc1"]


def history(values=(3.0, 8.0, 4.0), accuracy=0.9):
    found = History()
    layers = zip(["input", "conv", "fc1"], values, [None, None, "last_hidden"], strict=True)
    for order, (layer, value, role) in enumerate(layers):
        for data, shift in (("val", 0), ("train", 1)):
            for estimator in ("twonn", "pca"):
                found.append(
                    stage="fit",
                    epoch=0,
                    step=9,
                    data=data,
                    layer=layer,
                    role=role,
                    order=order,
                    depth=order / 2,
                    estimator=estimator,
                    n_samples=50 + shift,
                    value=value + shift + 10 * (estimator == "pca"),
                    std_error=0.5,
                )
    found.append_metrics(("fit", 0, 5), {"val_acc": 0.5})
    found.append_metrics(("fit", 0, 9), {"val_acc": accuracy})
    return found


def run(folder, settings, name="config.yaml", **changes):
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(settings)
    history(**changes).save(folder)
    return folder


def test_predictors_are_read_from_the_last_measurement_of_each_sample_set():
    row = dimensions(history(), PREDICTORS)
    assert row["last_hidden_val"] == 4
    assert row["last_hidden_val_se"] == 0.5
    assert row["last_hidden_train"] == 5
    assert (row["peak_val"], row["peak_depth_val"], row["peak_over_last_val"]) == (8, 0.5, 2)
    assert row["pca/last_hidden_val"] == 14
    assert row["twonn/fc1_train"] == 5
    assert (row["n_samples_val"], row["n_samples_train"]) == (50, 51)


def test_a_dimension_without_a_value_is_none():
    row = dimensions(history(values=(3.0, 8.0, np.nan)), PREDICTORS)
    assert (row["last_hidden_val"], row["peak_over_last_val"], row["peak_val"]) == (None, None, 8)
    assert dimensions(History(), PREDICTORS) == {}


@pytest.mark.parametrize(
    ("predictor", "is_there"),
    [("last_hidden", 1), ("peak", 1), ("pca/fc1", 1), ("pca/fc2", 0), ("gride/peak", 0)],
)
def test_a_predictor_that_is_not_measured_is_known(predictor, is_there):
    assert has_predictor(history(), predictor) == is_there


def test_runs_are_collected_with_the_settings_that_differ(tmp_path):
    text = "{{seed_everything: {}, model: {{width: {}}}, trainer: {{default_root_dir: {}}}}}"
    folders = [
        run(tmp_path / f"{w} {seed}", text.format(seed, w, w + seed))
        for w in (1, 2)
        for seed in (0, 1)
    ]
    rows = collect(folders)
    assert [(row["width"], row["seed"]) for row in rows] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert [row["cell"] for row in rows] == ["width 1", "width 1", "width 2", "width 2"]
    assert [row["val_acc"] for row in rows] == [0.9] * 4
    assert "default_root_dir" not in rows[0]


@pytest.mark.parametrize("name", ["hparams.yaml", ".hydra/config.yaml", "training.yaml"])
def test_settings_of_loggers_of_hydra_and_of_a_study_are_read(tmp_path, name):
    folders = [run(tmp_path / str(lr), f"lr: {lr}", name) for lr in (0.1, 0.01)]
    assert [row["lr"] for row in collect(folders)] == [0.1, 0.01]


def test_the_jobs_of_a_sweep_of_hydra_are_collected_by_the_pattern_of_the_page(tmp_path):
    sweep = tmp_path / "multirun" / "2026-01-01" / "12-00-00"
    for job, lr in enumerate((0.1, 0.01)):
        run(sweep / str(job), f"lr: {lr}", ".hydra/config.yaml")
    (sweep / "2").mkdir()  # a job that failed
    (sweep / "multirun.yaml").write_text("hydra: {}")
    page = (ROOT / "docs/how-to/study.md").read_text()
    (pattern,) = re.findall(r'Path\("multirun"\)\.glob\("(.*)"\)', page)
    found = collect(sorted((tmp_path / "multirun").glob(pattern)))
    assert [row["lr"] for row in found] == [0.1, 0.01]


def test_runs_without_settings_are_cells_of_their_own(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        history().save(folder)
    assert len({row["cell"] for row in collect(folders)}) == 2
    with pytest.raises(ValueError, match="`folders`: expected at least one"):
        collect([])


def test_an_outcome_is_a_metric_or_one_less_it():
    outcome = Outcome("1 - val_acc", "train_loss")
    assert outcome.metrics == ["val_acc", "train_loss"]
    row = outcome_of(outcome, {"val_acc": 0.75, "train_loss": 0.125})
    assert row == {"error": 0.25, "train_error": 0.125, "gap": 0.125}
    assert outcome_of(Outcome("1 - val_acc"), {}) == {"error": None}


def test_names_that_would_be_equal_keep_their_whole_path():
    assert short_names(["a.x", "b.x"]) == {"a.x": "a.x", "b.x": "b.x"}


def test_a_data_frame_is_a_table():
    frame = pd.DataFrame({"error": [0.1, np.nan], "net": ["a", "b"]})
    assert rows_of(frame) == [{"error": 0.1, "net": "a"}, {"error": None, "net": "b"}]
