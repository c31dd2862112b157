"""What is said of a history in the terminal: the line of a validation, the table at the end."""

from lightning_id import History
from lightning_id.console import end_table, validation_line

LAYERS = ["input", "conv1", "last_hidden", "output"]


def history_of(profiles):
    history = History()
    for i, profile in enumerate(profiles):
        stage = "before_training" if i == 0 else "fit"
        for order, (layer, value) in enumerate(zip(LAYERS, profile, strict=False)):
            place = {"stage": stage, "epoch": max(i - 1, 0), "step": i, "layer": layer}
            place |= {"order": order, "depth": order / 3, "ambient_dimension": 10 * order + 5}
            history.append(
                **place, estimator="twonn", value=value, std_error=0.5, low=value - 1,
                high=value + 1,
            )  # fmt: skip
            history.append(**place, estimator="pca", value=40.0 + order)
    return history


def test_the_table_shows_the_last_validation_beside_the_first_state():
    table = end_table(history_of([[12, 13, 14, 9], [12, 14, 8.125, 6]])).splitlines()
    assert table[0].split() == [
        "layer", "depth", "width", "TwoNN", "PCA", "90", "%", "TwoNN", "before", "PCA", "before",
    ]  # fmt: skip
    assert table[4].split() == [
        "last_hidden", "0.67", "25", "8.12", "±", "0.50", "42", "14.00", "±", "0.50", "42",
    ]  # fmt: skip
    assert end_table(History()) == "Nothing was measured."


def test_the_line_of_a_validation_says_accuracy_last_hidden_and_peak():
    history = history_of([[12, 13, 14, 9], [12, 14, 8, 6]])
    line = validation_line({"val_acc": 0.98, "id/last_hidden": 8.0}, "epoch 1", history)
    assert line == "epoch 1  val_acc 0.98  id/last_hidden 8  id/peak 14 at conv1"
