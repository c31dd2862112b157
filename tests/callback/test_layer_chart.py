"""The chart of all layers in the real trackers, offline, read back from what they wrote."""

import json
import re

import pytest
from pytorch_lightning.loggers import MLFlowLogger, WandbLogger

from lightning_id.callback.charts import layer_curves, log_layer_chart
from tests.callback.test_loggers import wandb_rows
from tests.figures.histories import history_of

KEY = "id/layers_twonn"


@pytest.fixture
def curves():
    return layer_curves(history_of(4, 5), "twonn")


def test_every_layer_is_a_curve_over_the_training_steps():
    history = history_of(4, 5)
    curves = layer_curves(history, "twonn")
    first, *_ = history.validations()
    assert list(curves) == [r["layer"] for r in history.at(first, "twonn")]
    for layer, curve in curves.items():
        assert [step for step, _ in curve] == [0, 100, 200, 300]
        expected = [
            r["value"]
            for r in history.records
            if r["layer"] == layer and r["estimator"] == "twonn" and r["label"] is None
        ]
        assert [value for _, value in curve] == expected


def test_wandb_has_a_line_series_of_all_layers(curves, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb

    settings = wandb.Settings(console="off", x_disable_meta=True)
    logger = WandbLogger(save_dir=tmp_path, offline=True, settings=settings)
    try:
        assert log_layer_chart([logger], KEY, curves, "twonn", 300) == []
    finally:
        logger.experiment.finish()
        wandb.teardown()
    (row,) = wandb_rows(next(tmp_path.rglob("*.wandb")))
    assert row["trainer/global_step"] == 300
    (table,) = tmp_path.rglob("*.table.json")
    rows = json.loads(table.read_text())["data"]
    assert rows == [[step, layer, value] for layer, of in curves.items() for step, value in of]


def test_mlflow_has_a_page_with_a_line_for_each_layer(curves, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    logger = MLFlowLogger(
        tracking_uri=f"sqlite:///{tmp_path}/runs.db", artifact_location=f"file:{tmp_path}/files"
    )
    assert log_layer_chart([logger], KEY, curves, "twonn", 100) == []
    assert log_layer_chart([logger], KEY, curves, "twonn", 300) == []
    (page,) = (tmp_path / "files").rglob("*.html")
    assert page.name == "id.layers_twonn.html"
    drawn = page.read_text(encoding="utf-8").rsplit("Plotly.newPlot", 1)[1]
    assert re.findall(r'"name":"([^"]*)"', drawn) == list(curves)


def test_other_loggers_are_left_alone_and_a_failing_one_is_reported(curves):
    class Down(MLFlowLogger):
        def __init__(self):
            pass

        @property
        def experiment(self):
            raise ConnectionError("down")

    failing = Down()
    ((logger, failure),) = log_layer_chart([None, object(), failing], KEY, curves, "twonn", 1)
    assert logger is failing
    assert str(failure) == "down"
    assert log_layer_chart([failing], KEY, {}, "twonn", 1) == []
