"""The pictures that the callback draws into real loggers while a model trains."""

import re
import sys

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

from lightning_id import History, IntrinsicDimensionCallback
from lightning_id.callback.charts import FIRST_COST, SHARE, Charts
from lightning_id.callback.failures import FailurePolicy
from tests.toys import Toy, loader, trainer

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


def history_of(n):
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
    drawing.draw(history_of(1), [logger], 0, tmp_path, elapsed=0.99 * FIRST_COST / SHARE)
    assert logger.steps == []
    drawing.draw(history_of(1), [logger], 1, tmp_path, elapsed=1.01 * FIRST_COST / SHARE)
    assert logger.steps == [1, 1, 1]
    drawing.draw(history_of(2), [logger], 2, tmp_path, elapsed=0.01 / SHARE)
    assert logger.steps == [1, 1, 1]
    drawing.draw(history_of(3), [logger], 3, tmp_path, elapsed=1e6)
    drawing.draw(history_of(3), [logger], 4, tmp_path, elapsed=1e6, is_last=True)  # nothing new
    assert logger.steps == [1, 1, 1, 3, 3, 3]
    drawing.draw(history_of(4), [logger], 5, tmp_path, elapsed=0.0, is_last=True)
    assert logger.steps[-1] == 5


def test_a_failing_logger_is_warned_of_once_and_the_others_have_their_pictures(tmp_path):
    drawing, good, bad = charts(), Seen(), Seen(fails=True)
    with pytest.warns(UserWarning, match=r"Seen could not store the figure.*no route") as caught:
        drawing.draw(history_of(1), [bad, good], 1, tmp_path, elapsed=1e6)
    assert len(caught) == 1
    assert good.steps == [1, 1, 1]


def test_without_matplotlib_a_message_is_logged_and_the_fit_goes_on(tmp_path, monkeypatch, caplog):
    for name in [name for name in sys.modules if name.startswith("lightning_id.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level("INFO"):
        drawing = charts()
        for n in (1, 2):
            drawing.draw(history_of(n), [Seen()], n, tmp_path, elapsed=1e6)
    assert caplog.text.count("No figures are drawn without matplotlib") == 1
