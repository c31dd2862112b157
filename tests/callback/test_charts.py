"""The pictures that the callback draws into real loggers while a model trains."""

import json
import re
import sys
import threading

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

from lightning_id import History, IntrinsicDimensionCallback
from lightning_id.callback.charts import FIRST_COST, SHARE, Charts, layer_curves, log_layer_chart
from lightning_id.callback.failures import FailurePolicy
from tests.callback.test_loggers import wandb_rows
from tests.figures.histories import history_of
from tests.toys import Toy, fitted, loader, trainer

PICTURES = ["id/depth_profile", "id/layers_over_time", "id/heat_map"]


def charts():
    return Charts("", FailurePolicy("warn", "Callback"))


def fit(folder, *loggers, epochs=1, **kwargs):
    callback = IntrinsicDimensionCallback(["input", "net.5"], **kwargs)
    runner = trainer(
        folder,
        callbacks=[callback],
        logger=list(loggers),
        num_sanity_val_steps=-1,
        max_epochs=epochs,
    )
    runner.fit(Toy(), loader(), loader(60))
    return callback


def events(folder):
    board = EventAccumulator(str(folder), size_guidance={"images": 0})
    board.Reload()
    return board


def test_pictures_are_next_to_the_curves_and_the_last_holds_everything(default_fit):
    found = events(default_fit.board)
    assert found.Tags()["images"] == PICTURES
    last_step = default_fit.callback.history.validations()[-1][2]
    for tag in PICTURES:
        steps = [image.step for image in found.Images(tag)]
        assert steps[-1] >= last_step
        assert len(steps) == 1  # one percent of a second draws nothing before
    # The page of custom scalars, once, with every layer that is logged.
    tensor = found.Tensors(metadata.CONFIG_SUMMARY_TAG)
    assert len(tensor) == 1
    layout = layout_pb2.Layout.FromString(tensor[0].tensor_proto.string_val[0])
    (page,) = layout.category
    assert page.title == "Intrinsic dimension"
    tags = set(found.Tags()["scalars"])
    of_page = {chart.title: chart.multiline.tag for chart in page.chart}
    metric, *others = of_page
    assert metric.startswith("val")
    assert others[:3] == ["Last hidden layer", "TwoNN", "PCA 90 %"]
    for title, expressions in of_page.items():
        for expression in expressions:
            assert any(re.match(expression, tag) for tag in tags), (title, expression)


def test_the_pictures_are_of_what_was_measured(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "lightning_id.callback.charts.log_figure",
        lambda _, key, figure, *__: drawn.append(figure) or [],
    )
    history = History()
    history.append(
        stage="fit", epoch=0, step=1, layer="a", order=0, depth=0.0, estimator="mle", value=3.0
    )
    charts().draw(history, ["a logger"], 1, None, elapsed=0.0, is_last=True)
    assert [figure.axes[0].has_data() for figure in drawn] == [True, True, False]
    assert drawn[2].axes[1].has_data()


def test_loggers_without_pictures_have_them_as_files(tmp_path):
    logger = CSVLogger(tmp_path)
    fit(tmp_path, logger)
    for name in PICTURES:
        assert (tmp_path / "lightning_logs" / "version_0" / f"{name}.png").stat().st_size > 5000


def test_nothing_is_drawn_if_charts_are_off_or_there_is_no_logger(tmp_path):
    board = TensorBoardLogger(tmp_path, "run")
    fit(tmp_path, board, charts=False)
    assert not events(board.log_dir).Tags()["images"]
    fit(tmp_path / "none")
    assert not list((tmp_path / "none").rglob("*.png"))


class Seen:
    """A logger that takes pictures; a real one with a clock would do no more here."""

    def __init__(self, fails=False):
        self.steps, self.fails = [], fails

    def log_image(self, key, images, step):
        if self.fails:
            raise ConnectionError("no route")
        self.steps.append(step)


def history_of_steps(n):
    history = History()
    for step in range(n):
        history.append(
            stage="fit",
            epoch=step,
            step=step,
            layer="a",
            order=0,
            depth=0.5,
            estimator="twonn",
            value=5.0,
        )
    return history


def test_drawing_takes_its_share_of_the_time_and_the_last_is_always_drawn(tmp_path):
    drawing, logger = charts(), Seen()
    drawing.draw(history_of_steps(1), [logger], 0, tmp_path, elapsed=0.99 * FIRST_COST / SHARE)
    assert logger.steps == []
    drawing.draw(history_of_steps(1), [logger], 1, tmp_path, elapsed=1.01 * FIRST_COST / SHARE)
    assert logger.steps == [1, 1, 1]
    drawing.draw(history_of_steps(2), [logger], 2, tmp_path, elapsed=0.01 / SHARE)
    assert logger.steps == [1, 1, 1]
    drawing.draw(history_of_steps(3), [logger], 3, tmp_path, elapsed=1e6)
    drawing.draw(
        history_of_steps(3), [logger], 4, tmp_path, elapsed=1e6, is_last=True
    )  # nothing new
    assert logger.steps == [1, 1, 1, 3, 3, 3]
    drawing.draw(history_of_steps(4), [logger], 5, tmp_path, elapsed=0.0, is_last=True)
    assert logger.steps[-1] == 5


def test_a_failing_logger_is_warned_of_once_and_the_others_have_their_pictures(tmp_path):
    drawing, good, bad = charts(), Seen(), Seen(fails=True)
    with pytest.warns(UserWarning, match=r"Seen could not store the figure.*no route") as caught:
        drawing.draw(history_of_steps(1), [bad, good], 1, tmp_path, elapsed=1e6)
    assert len(caught) == 1
    assert good.steps == [1, 1, 1]


def test_without_matplotlib_a_message_is_logged_and_the_fit_goes_on(tmp_path, monkeypatch, caplog):
    for name in [name for name in sys.modules if name.startswith("lightning_id.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level("INFO"):
        drawing = charts()
        for n in (1, 2):
            drawing.draw(history_of_steps(n), [Seen()], n, tmp_path, elapsed=1e6)
    assert caplog.text.count("No figures are drawn without matplotlib") == 1


# --- a TensorBoard run for each layer: names, values, steps, and files that are closed ------------


RUNS = ["00-input", "01-net.5", "02-last_hidden"]


def fit_with_curves(folder, model=None, version="run", **options):
    pl.seed_everything(5, verbose=False)
    callback = IntrinsicDimensionCallback(["input", "net.5"], n_samples=40, charts=False, **options)
    logger = TensorBoardLogger(folder, name=None, version=version)
    fitted(
        folder,
        callback,
        model=model or Toy(),
        train=loader(64, seed=3),
        logger=logger,
        num_sanity_val_steps=-1,
    )
    return callback, folder / version


def curve(folder, tag="id/twonn"):
    found = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in found.Scalars(tag)]


def test_each_layer_of_each_set_has_a_run_with_its_values(tmp_path):
    threads = threading.active_count()
    callback, run = fit_with_curves(tmp_path, data=("val", "train"))
    assert sorted(path.name for path in (run / "layers").iterdir()) == RUNS
    for name, folder in (("val", "layers"), ("train", "train_layers")):
        history = callback.history.of_set(name)
        for estimator in ("twonn", "pca"):
            for order, layer in enumerate(RUNS):
                expected = [
                    (v.step, pytest.approx(history.at(v, estimator)[order]["value"]))
                    for v in history.validations()
                ]
                assert curve(run / folder / layer, f"id/{estimator}") == expected
    assert threading.active_count() <= threads + 1  # the writer of the logger itself


def test_it_can_be_turned_off_and_a_trial_run_writes_none(tmp_path):
    _, run = fit_with_curves(tmp_path, layer_curves=False)
    assert not (run / "layers").exists()
    fitted(tmp_path / "fast", IntrinsicDimensionCallback(), val=loader(), fast_dev_run=True)
    assert not list((tmp_path / "fast").rglob("layers"))


def test_an_exception_closes_the_files_and_a_resumed_run_appends(tmp_path):
    class Failing(Toy):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit_with_curves(tmp_path, Failing())
    writers = [t for t in threading.enumerate() if "_AsyncWriterThread" in type(t).__name__]
    before = curve(tmp_path / "run" / "layers" / RUNS[1])
    assert [step for step, _ in before] == [0, 3]
    assert len(writers) <= 1
    fit_with_curves(tmp_path)
    assert len(curve(tmp_path / "run" / "layers" / RUNS[1])) == 2 + 3


# The chart of all layers in the real trackers, offline, read back from what they wrote


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
