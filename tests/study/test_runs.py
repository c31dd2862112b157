"""The table and the page of a study, from results that are written by hand."""

import json
from pathlib import Path

import pytest

from lightning_id.study.runs import Runs
from lightning_id.study.training import prepare, write_json
from tests.report.histories import after_training
from tests.study.helpers import content

WIDTH, SEED = "model.init_args.width", "seed_everything"


def runs(widths=(4, 8), **others):
    return Runs(content({WIDTH: list(widths), SEED: [0]}, **others))


def finish(runs, number, accuracy=0.75, **result):
    """Write the files of a finished training; return its folder."""
    training = runs.trainings[number]
    folder = runs.folder_of(training)
    prepare(folder, training, runs.study)
    history = after_training([5, 9, 6, 4])
    history.append_metrics(("fit", 1, 20), {"val_acc": accuracy})
    history.save(folder)
    write_json(folder / "result.json", {"metrics": {}, "seconds": 2.0} | result)
    return folder


def test_a_training_is_missing_until_it_has_a_result():
    study = runs()
    assert study.missing() == study.trainings
    finish(study, 0)
    write_json(study.folder_of(study.trainings[1]).with_suffix(".txt"), {})
    assert study.missing() == study.trainings[1:]


def test_a_row_has_settings_dimensions_metrics_and_error():
    study = runs()
    folder = finish(study, 1, metrics={"test_acc": 0.5})
    assert folder == study.folder / "runs" / study.trainings[1].identity
    waiting, done = study.rows()
    assert list(waiting)[:4] == ["run", "cell", "width", "seed"]
    assert (waiting["width"], waiting["reason"], waiting["error"]) == (4, "not run yet", None)
    assert (done["width"], done["seed"], done["reason"]) == (8, 0, None)
    assert (done["last_hidden_val"], done["peak_val"], done["peak_over_last_val"]) == (6, 9, 1.5)
    assert (done["val_acc"], done["test_acc"], done["error"]) == (0.75, 0.5, 0.25)
    assert (done["seconds"], done["n_samples_val"]) == (2.0, 2000)
    assert done["cell"] == study.trainings[1].cell
    assert waiting.keys() == done.keys()


def test_a_failed_training_has_its_reason():
    study = runs()
    folder = study.folder_of(study.trainings[0])
    folder.mkdir(parents=True)
    write_json(folder / "failure.json", {"reason": "RuntimeError: as asked"})
    assert [row["reason"] for row in study.rows()] == ["RuntimeError: as asked", "not run yet"]
    assert study.missing() == study.trainings


def test_a_finished_training_without_the_metric_has_no_error():
    study = runs(outcome={"error": "val_auroc"})
    finish(study, 0)
    row = study.rows()[0]
    assert (row["error"], row["reason"]) == (None, "finished without val_auroc")


@pytest.mark.parametrize(
    ("others", "difference"),
    [
        ({"fixed": {"model.init_args.lr": 0.3}}, "model.init_args.lr None -> 0.3"),
        ({"callback": {"n_samples": 50}}, "callback.n_samples 90 -> 50"),
    ],
)
def test_results_of_another_configuration_are_named_with_their_differences(others, difference):
    before = runs()
    finish(before, 0)
    assert before.changed() == []
    (found,) = runs(**others).changed()
    assert found.startswith(f"{WIDTH} 4, {SEED} 0 (")
    assert difference in found
    assert runs(widths=[16], **others).changed() == []  # not of this study


def test_the_page_is_of_the_first_predictor_and_further_ones_are_only_correlated():
    study = runs()
    finish(study, 0)
    finish(study, 1, accuracy=0.5)
    analysis, path = study.write()
    assert path == Path("runs/study/page.md")
    assert list(analysis.relations) == ["last_hidden_val"]
    assert analysis.others == ["peak_val", "peak_over_last_val"]
    assert [row["error"] for row in analysis.rows] == [0.25, 0.5]
    assert "lightning-id study study.yaml" in path.read_text()
    assert path.with_suffix(".png").exists()
    other = study.write("docs/found.md")[1]
    assert str(other) == "docs/found.md"
    assert "(found.png)" in other.read_text()


def test_folders_are_named_after_the_study_unless_one_is_given():
    assert runs().folder == Path("runs/study")
    assert Runs(content({WIDTH: [4]}), "elsewhere").folder == Path("elsewhere")
    Path("mine.yaml").write_text(json.dumps(content({WIDTH: [4]})))
    assert Runs("mine.yaml").folder == Path("runs/mine")
