"""Tables of a history: the one at the end of a training, and Markdown."""

from lightning_id import History
from lightning_id.history.tables import end_table, markdown_table, markdown_text
from tests.pages import ROOT

LAYERS = ["input", "conv1", "last_hidden", "output"]


def history_of(profiles):
    history = History()
    for i, profile in enumerate(profiles):
        stage = "before_training" if i == 0 else "fit"
        for order, (layer, value) in enumerate(zip(LAYERS, profile, strict=False)):
            place = {"stage": stage, "epoch": max(i - 1, 0), "step": i, "layer": layer}
            place |= {"order": order, "depth": order / 3, "ambient_dimension": 10 * order + 5}
            history.append(
                **place,
                estimator="twonn",
                value=value,
                std_error=0.5,
                low=value - 1,
                high=value + 1,
            )
            history.append(**place, estimator="pca", value=40.0 + order)
    return history


def test_the_table_shows_the_last_validation_and_the_first_state():
    table = end_table(history_of([[12, 13, 14, 9], [12, 14, 8.125, 6]])).splitlines()
    assert table[0].split() == [
        "layer",
        "depth",
        "width",
        "TwoNN",
        "PCA",
        "90",
        "%",
        "TwoNN",
        "before",
        "PCA",
        "before",
    ]
    assert table[4].split() == [
        "last_hidden",
        "0.67",
        "25",
        "8.12",
        "±",
        "0.98",
        "42",
        "14.00",
        "±",
        "0.98",
        "42",
    ]
    assert end_table(History()) == "Nothing was measured."


def test_the_table_after_a_test_is_of_the_test_and_the_network_before_training():
    history = history_of([[12, 13, 14, 9], [12, 14, 8, 6]])
    for record in history.at(("fit", 0, 1), "twonn"):
        history.append(**(record | {"stage": "test", "epoch": 1, "value": 3.0}))
    assert "3.00 ± 0.98" in end_table(history, ["twonn"])
    assert "13.00 ± 0.98" in end_table(history, ["twonn"])


def test_a_markdown_table_has_its_names_to_the_left_and_text_is_escaped():
    rows = [["layer", "TwoNN", "PCA"], [markdown_text("a|b_c\nd"), "1", "2"]]
    assert markdown_table(rows).splitlines() == [
        "| layer | TwoNN | PCA |",
        "|---|---:|---:|",
        r"| a\|b\_c d | 1 | 2 |",
    ]
    assert "|---|---|---|" in markdown_table(rows, "---")
    assert markdown_table([]) == ""


def test_the_change_since_the_first_measurement_is_a_column_with_its_paired_bar():
    history = history_of([[12, 13, 14, 9], [12, 14, 8.125, 6]])
    assert "change" not in end_table(history).splitlines()[0]
    record = next(r for r in history.at(("fit", 0, 1), "twonn") if r["layer"] == "last_hidden")
    record |= {"change": -5.875, "change_std_error": 0.5}
    table = end_table(history).splitlines()
    assert "change  TwoNN before" in table[0]
    assert "42  -5.88 ± 0.98  14.00 ± 0.98" in table[4]


def test_a_table_too_wide_leaves_out_first_the_values_whose_change_it_shows():
    history = History.load(ROOT / "docs" / "histories" / "mnist")
    assert max(map(len, end_table(history).splitlines())) > 80
    narrow = end_table(history, columns=80).splitlines()
    assert max(map(len, narrow)) <= 80
    assert narrow[0].endswith("TwoNN  PCA 90 %        change  PCA before")
    assert end_table(history, columns=60).splitlines()[0].endswith("PCA 90 %        change")
