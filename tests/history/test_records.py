import math

import pytest
import torch

from lightning_id import History
from lightning_id.figures import KINDS
from lightning_id.history import (
    COLUMNS,
    METRIC_COLUMNS,
    Metric,
    Record,
    Validation,
    folder_of,
)


@pytest.fixture
def history():
    history = History()
    for epoch in range(2):
        for order, layer in ((1, "fc, wide"), (0, "input")):
            history.append(
                stage="fit",
                epoch=epoch,
                step=10 * epoch,
                layer=layer,
                order=order,
                depth=0.5,
                estimator="twonn",
                value=0.1 + 0.2,
                std_error=math.nan,
                n_samples=7,
            )
    return history


def assert_same(records, others):
    assert [{k: str(v) for k, v in r.items()} for r in records] == [
        {k: str(v) for k, v in r.items()} for r in others
    ]


def test_a_history_says_what_it_holds():
    history = History()
    history.append(stage="fit", epoch=0, step=1, layer="fc", estimator="twonn", value=2.0)
    history.append(stage="fit", epoch=0, step=1, layer="fc", estimator="pca", value=3.0)
    assert repr(history).startswith("History(2 records of 1 measurements; .records")


def test_what_is_saved_is_loaded_to_the_last_digit(history, tmp_path):
    history.to_csv(tmp_path / "h.csv")
    loaded = History.load(tmp_path / "h.csv")
    assert_same(loaded.records, history.records)
    assert loaded.records[0]["value"] == 0.1 + 0.2
    assert loaded.records[0]["reason"] is None


def test_a_file_is_continued(history, tmp_path):
    History(history.records[:2]).to_csv(tmp_path / "h.csv")
    history.to_csv(tmp_path / "h.csv", start=2)
    assert_same(History.load(tmp_path / "h.csv").records, history.records)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv.*got \['a', 'b'\]"):
        History.load(tmp_path / "other.csv")


def test_the_types_of_records_and_metrics_have_the_columns_of_their_files():
    assert list(Record.__annotations__) == list(COLUMNS)
    assert list(Metric.__annotations__) == list(METRIC_COLUMNS)


def test_a_validation_is_a_tuple_with_names(history):
    first, _ = history.validations()
    assert first == ("fit", 0, 0)
    assert (first.stage, first.epoch, first.step) == first
    history.keep_spectra(("fit", 0, 0), {"input": torch.ones(3)})
    assert list(history.spectra) == [Validation("fit", 0, 0)]


def test_spectra_of_the_first_measurement_and_the_last_of_each_stage_are_kept_by_set(tmp_path):
    history = History()
    places = [("before_training", 0, 0), ("fit", 0, 9), ("fit", 1, 19), ("validate", 2, 20)]
    for data, scale in (("val", 1.0), ("train", 2.0)):
        for place in places:
            history.append(**dict(zip(METRIC_COLUMNS, place, strict=False)), data=data)
            history.keep_spectra(place, {"a/b": torch.full((3,), scale)}, data)
    history.save(tmp_path)
    resumed = History()
    resumed.load_state_dict(history.state_dict())
    for each in (history, History.load(tmp_path), resumed):
        assert list(each.spectra) == [places[0], *places[2:]]
        assert float(each.spectra[places[2]]["a/b"][0]) == 1
        assert float(each.of_set("train").spectra[places[2]]["a/b"][0]) == 2


def test_the_files_of_a_prefix_are_in_a_folder_of_its_name():
    assert folder_of("runs/version_0", "train/").as_posix() == "runs/version_0/train"


def test_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="'valeu'"):
        History().append(valeu=1)


def test_records_of_a_validation_are_in_the_order_of_execution(history):
    assert history.validations() == [("fit", 0, 0), ("fit", 1, 10)]
    assert [r["layer"] for r in history.at(("fit", 1, 10), "twonn")] == ["input", "fc, wide"]


def test_a_data_frame_has_a_row_per_record(history):
    frame = history.to_pandas()
    assert list(frame["layer"]) == ["fc, wide", "input"] * 2
    assert list(frame["value"]) == [0.1 + 0.2] * 4


def test_records_pass_a_checkpoint_that_reads_weights_only(history, tmp_path):
    torch.save(history.records, tmp_path / "c.pt")
    assert_same(torch.load(tmp_path / "c.pt", weights_only=True), history.records)


def test_layers_without_a_place_in_the_order_are_last():
    history = History()
    for layer, order in (("late", None), ("second", 1), ("first", 0), ("later", None)):
        history.append(
            stage="fit", epoch=0, step=1, layer=layer, order=order, estimator="twonn", value=3.0
        )
    found = [record["layer"] for record in history.at(("fit", 0, 1), "twonn")]
    assert found == ["first", "second", "late", "later"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_is_drawn_by_its_name(kind):
    figure = History().plot(kind)
    assert [text.get_text() for axes in figure.axes for text in axes.texts] or figure.texts


def test_a_picture_takes_the_options_of_its_function_and_an_unknown_kind_is_named():
    history = History()
    history.append(
        stage="fit", epoch=0, step=1, layer="a", order=0, depth=0.0, estimator="pca", value=3.0
    )
    labels = history.plot("depth_profile", estimator="pca").axes[0].get_ylabel()
    assert "90 % of the variance" in labels
    with pytest.raises(ValueError, match="expected one of depth_profile, heat_map"):
        history.plot("pie")
