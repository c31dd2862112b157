"""Figures and keys in the real trackers, offline, read back from what they wrote."""

import importlib
import io
import json
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin

from lightning_id.callback.loggers import key_names, log_figure, tensorboard_layout
from tests.processes import in_process

KEY = "id/depth_profile"
LAYERS = [
    "net",
    "net.0",
    "net.0.conv",
    "stage",
    "stage/first",
    "/leading",
    "a//b",
    "..",
    "weiß",
    "层",
    "block (1)",
    "block [1]",
    "x#1",
    "x$1",
    "deep." * 60 + "end",
]


@pytest.fixture(params=["pytorch_lightning.loggers", "lightning.pytorch.loggers"])
def loggers(request):
    """The loggers of each of the two class trees."""
    return importlib.import_module(request.param)


def figure_of(height):
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.add_axes((0, 0, 1, 1)).bar([0], [height])
    return figure


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def rendered(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return pixels(buffer.getvalue())


def metrics():
    """A number for every layer, under the key that is logged."""
    names = key_names(LAYERS)
    return {f"id_twonn/{names[layer]}": float(i) for i, layer in enumerate(LAYERS)}


# --- each tracker --------------------------------------------------------------------------------


def test_tensorboard_keeps_every_figure_at_its_step_and_every_key(loggers, tmp_path):
    logger = loggers.TensorBoardLogger(tmp_path)
    first, second = figure_of(1), figure_of(2)
    logger.log_metrics(metrics(), 7)
    assert log_figure([logger], KEY, first, 7, tmp_path) == []
    assert log_figure([logger], KEY, second, 9, tmp_path) == []
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir, {IMAGES: 0}).Reload()
    images = events.Images(KEY)
    assert [image.step for image in images] == [7, 9]
    for image, figure in zip(images, (first, second), strict=True):
        assert np.array_equal(pixels(image.encoded_image_string), rendered(figure))
    assert {key: events.Scalars(key)[0].value for key in metrics()} == metrics()
    assert not list(tmp_path.rglob("*.png"))


def test_wandb_keeps_every_figure_at_its_step_and_every_key(loggers, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")  # set back afterwards: Lightning sets it too
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb

    logger = loggers.WandbLogger(
        save_dir=tmp_path, offline=True, settings=wandb.Settings(console="off", x_disable_meta=True)
    )
    try:
        logger.log_metrics(metrics(), 7)
        assert log_figure([logger], KEY, figure_of(1), 7, tmp_path) == []
        assert log_figure([logger], KEY, figure_of(2), 9, tmp_path) == []
        folder = Path(logger.experiment.dir)
    finally:
        logger.experiment.finish()
        wandb.teardown()  # waits for the process that writes; `finish` may return before
    rows = list(wandb_rows(next(folder.parent.glob("*.wandb"))))
    assert {key: rows[0][key] for key in metrics()} == metrics()
    drawn = [row for row in rows if f"{KEY}.filenames" in row]
    assert [row["trainer/global_step"] for row in drawn] == [7, 9]
    for row, figure in zip(drawn, (figure_of(1), figure_of(2)), strict=True):
        file = folder / row[f"{KEY}.filenames"][0]
        assert np.array_equal(pixels(file.read_bytes()), rendered(figure))


def wandb_rows(path):
    """What was logged to an offline run: its file is a log of LevelDB's format, of protobufs."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no header fits into the rest of a block
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            items = Record.FromString(record).history.item
            if items:
                yield {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
            record = b""


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One for all tests: MLflow takes seconds to make it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/runs.db"


@pytest.mark.parametrize("store", ["database", "files"])
def test_mlflow_keeps_every_figure_at_its_step_and_every_key(
    loggers, store, database, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # by now off unless asked for
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # set back afterwards: Lightning sets it
    where = database if store == "database" else f"file:{tmp_path}/runs"
    logger = loggers.MLFlowLogger(tracking_uri=where, artifact_location=f"file:{tmp_path}/files")
    logger.log_metrics(metrics(), 7)
    assert log_figure([logger], KEY, figure_of(1), 7, tmp_path) == []
    assert log_figure([logger], KEY, figure_of(2), 9, tmp_path) == []
    from mlflow import MlflowClient

    client = MlflowClient(where)
    assert client.get_run(logger.run_id).data.metrics == metrics()
    pictures = [
        a.path for a in client.list_artifacts(logger.run_id, "images") if "webp" not in a.path
    ]
    assert len(pictures) == 2
    for step, figure in ((7, figure_of(1)), (9, figure_of(2))):
        path = next(p for p in pictures if re.search(rf"id\.depth_profile.step.{step}\W", p))
        local = client.download_artifacts(logger.run_id, path, str(tmp_path))
        assert np.array_equal(np.asarray(Image.open(local).convert("RGB")), rendered(figure))


def log_to_comet(folder):
    from pytorch_lightning.loggers import CometLogger

    logger = CometLogger(
        offline_directory=str(folder),
        log_code=False,
        auto_output_logging=False,
        log_env_details=False,
        log_git_metadata=False,
        log_git_patch=False,
    )
    logger.log_metrics(metrics(), 7)
    assert log_figure([logger], KEY, figure_of(1), 7, folder) == []
    assert log_figure([logger], KEY, figure_of(2), 9, folder) == []
    logger.experiment.end()


def test_comet_keeps_every_figure_at_its_step_and_every_key(tmp_path):
    # In a process of its own: comet_ml patches what is imported after it. `online=False` of
    # Lightning's logger makes an experiment that writes nothing; this is Comet's own switch.
    in_process(log_to_comet, tmp_path, COMET_START_ONLINE="0")
    with zipfile.ZipFile(next(tmp_path.glob("*.zip"))) as archive:
        messages = [json.loads(line) for line in archive.read("messages.json").splitlines()]
        logged = [m["payload"]["metric"] for m in messages if m["type"] == "metric_msg"]
        assert {m["metricName"]: m["metricValue"] for m in logged} == metrics()
        uploads = [m["payload"] for m in messages if m["type"] == "file_upload"]
        pictures = [u for u in uploads if u["additional_params"].get("figName") == KEY]
        assert [u["additional_params"]["step"] for u in pictures] == [7, 9]
        for upload, figure in zip(pictures, (figure_of(1), figure_of(2)), strict=True):
            assert np.array_equal(pixels(archive.read(upload["file_path"])), rendered(figure))


def test_without_a_logger_of_pictures_the_last_figure_is_a_file_of_the_run(loggers, tmp_path):
    csv = loggers.CSVLogger(tmp_path / "csv")
    for with_loggers, folder in (
        ([csv], tmp_path / "a"),
        ([], tmp_path / "b"),
        ([None], tmp_path / "c"),
    ):
        assert log_figure(with_loggers, KEY, figure_of(1), 7, folder) == []
        assert log_figure(with_loggers, KEY, figure_of(2), 9, folder) == []
        assert [p.relative_to(folder).as_posix() for p in folder.rglob("*.*")] == [f"{KEY}.png"]
        assert np.array_equal(pixels((folder / f"{KEY}.png").read_bytes()), rendered(figure_of(2)))
    assert log_figure([], KEY, figure_of(1), 7, None) == []


# --- other loggers, and broken ones --------------------------------------------------------------


def test_a_logger_of_another_kind_is_asked_what_it_can_do(tmp_path):
    class Experiment:
        def add_image(self, key, array, step, dataformats):
            taken.append((key, array.shape, step, dataformats))

    class LikeTensorBoard:
        experiment = Experiment()

    class LikeWandb:
        def log_image(self, key, images, step):
            taken.append((key, images[0].size, step))

    class Nothing:
        experiment = object()

    taken = []
    assert (
        log_figure([LikeTensorBoard(), LikeWandb(), Nothing()], KEY, figure_of(1), 3, tmp_path)
        == []
    )
    assert taken == [(KEY, (50, 100, 3), 3, "HWC"), (KEY, (100, 50), 3)]
    assert (tmp_path / f"{KEY}.png").exists()


def test_a_logger_of_a_class_below_one_that_is_known_is_treated_alike(
    loggers, database, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")

    class Mine(loggers.MLFlowLogger):
        pass

    logger = Mine(tracking_uri=database, artifact_location=f"file:{tmp_path}/files")
    assert log_figure([logger], KEY, figure_of(1), 7, tmp_path / "run") == []
    assert logger.experiment.list_artifacts(logger.run_id, "images")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_down_is_reported_and_the_others_get_the_figure(
    loggers, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    unreachable = loggers.MLFlowLogger(tracking_uri="http://127.0.0.1:9")
    board, csv = loggers.TensorBoardLogger(tmp_path / "tb"), loggers.CSVLogger(tmp_path / "csv")
    failures = log_figure([unreachable, board, csv], KEY, figure_of(1), 7, tmp_path)
    assert [logger for logger, _ in failures] == [unreachable]
    assert "127.0.0.1" in str(failures[0][1])
    board.finalize("success")
    assert EventAccumulator(board.log_dir).Reload().Tags()["images"] == [KEY]
    assert (tmp_path / f"{KEY}.png").exists()


# --- keys ----------------------------------------------------------------------------------------


def test_names_in_keys_are_plain_short_and_each_its_own():
    names = key_names(LAYERS)
    assert len(set(names.values())) == len(LAYERS)
    assert all(
        set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
        for name in names.values()
    )
    assert max(map(len, names.values())) <= 60
    assert names["deep." * 60 + "end"].endswith("deep.end")
    modules = ["net", "net.0", "net.0.conv", "layer4.1.conv2", "input", "last_hidden"]
    assert list(key_names(modules).values()) == modules


def test_names_that_become_alike_are_numbered_in_order():
    assert list(key_names(["a[1]", "a(1)", "a_1_", "a 1 "]).values()) == [
        "a_1_",
        "a_1_-2",
        "a_1_-3",
        "a_1_-4",
    ]


# --- the page of TensorBoard ---------------------------------------------------------------------


@pytest.fixture
def page(loggers, tmp_path):
    """TensorBoard's own plugin on a run with the page: what it would send to the browser."""
    logger = loggers.TensorBoardLogger(tmp_path)
    layers = ["net.0", "net.00", "net_0", "net.0.conv"]
    layout = tensorboard_layout(layers, ["twonn", "pca"], ["val/loss+x", "val_acc"], prefix="a.")
    logger.experiment.add_custom_scalars(layout)
    keys = [f"a.id_{e}/{layer}" for e in ("twonn", "twonn_se", "pca") for layer in layers]
    keys += ["a.id/last_hidden", "a.id/last_hidden_low", "a.id/last_hidden_high", "aXid_pca/net.0"]
    logger.log_metrics(dict.fromkeys([*keys, "val_acc", "val_acc_top5", "val/loss+x"], 1.0), 7)
    logger.finalize("success")
    runs = EventMultiplexer().AddRunsFromDirectory(str(logger.log_dir)).Reload()
    context = TBContext(data_provider=MultiplexerDataProvider(runs, str(logger.log_dir)))
    plugin = CustomScalarsPlugin(
        TBContext(
            data_provider=context.data_provider,
            plugin_name_to_instance={"scalars": ScalarsPlugin(context)},
        )
    )
    (category,) = json.loads(plugin.layout_impl(RequestContext(), ""))["category"]
    (run,) = runs.Runs()

    def tags_of(expression):
        found = plugin.scalars_impl(RequestContext(), run, expression, "")
        assert found["regex_valid"]
        return sorted(found["tag_to_events"])

    return category, tags_of


def test_every_estimator_has_a_chart_under_the_name_that_tables_give_it():
    layout = tensorboard_layout(["a"], ["effective_rank", "mine"], [])
    assert list(layout["Intrinsic dimension"]) == ["effective rank", "mine"]


def test_every_line_of_the_page_is_one_logged_key(page):
    category, tags_of = page
    assert category["title"] == "Intrinsic dimension"
    charts = {chart["title"]: chart for chart in category["chart"]}
    # A chart of another kind would come after all of these, whatever the layout.
    assert list(charts) == ["val_acc", "Last hidden layer", "TwoNN", "PCA 90 %", "val/loss+x"]
    lines = {t: [tags_of(tag) for tag in chart["multiline"]["tag"]] for t, chart in charts.items()}
    hidden = "a.id/last_hidden"
    layers = ["net.0", "net.00", "net_0", "net.0.conv"]
    assert lines == {
        "TwoNN": [[f"a.id_twonn/{layer}"] for layer in layers],
        "PCA 90 %": [[f"a.id_pca/{layer}"] for layer in layers],
        "val_acc": [["val_acc"]],
        "Last hidden layer": [[hidden], [f"{hidden}_low"], [f"{hidden}_high"]],
        "val/loss+x": [["val/loss+x"]],
    }
