"""Several trained networks compared: dimension of the last hidden layer against the error."""

import contextlib
import csv
import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_id import History
from lightning_id.__main__ import main
from lightning_id.experiments.pretrained import (
    OF_PAPER,
    compare,
    comparison_figure,
    comparison_text,
    correlations,
    row_of,
)
from reproduction.published import published
from tests.commands import refused
from tests.profile.photographs import QUICK, make_files, measured
from tests.quick import draw_quickly

KINDS = ["Colours", "Always0", "two_outputs"]


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[Path, str, dict]:
    """Folder, words and measurements of a study of three networks, of which two were measured."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as shown:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        make_files()
        draw_quickly(patch)
        histories = {f"net{i}": measured(f"{kind}", layers="pool") for i, kind in enumerate(KINDS)}
        for name in ("net0", "net1"):
            histories[name].save(Path("before", name))
        Path("net2.py").write_text("from nets_of_profile import two_outputs as net")
        words = ["before/net0", "before/net1", "net2:net", "--data=photos", "--layers=pool"]
        main(["study", "pretrained", *words, *QUICK])
    sys.modules.pop("nets_of_profile", None)
    sys.modules.pop("net2", None)
    return folder / "runs/pretrained", shown.getvalue(), histories


def test_what_was_measured_before_is_read_and_the_rest_is_measured(compared):
    folder, shown, histories = compared
    with (folder / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == ["net0", "net1", "net2:net"]
    assert sorted(child.name for child in folder.iterdir() if child.is_dir()) == ["net2-net"]
    for row, history in zip(rows, histories.values(), strict=True):
        (last,) = [r for r in history.at(("validate", 0, 0), "twonn") if r["role"] == "last_hidden"]
        assert float(row["last_hidden"]) == pytest.approx(last["value"])
    accuracies = [float(row["accuracy"]) for row in rows]
    assert accuracies == pytest.approx([1, 1 / 3, math.nan], nan_ok=True)
    assert "net2:net: no accuracy" in shown


def test_the_study_ends_in_tables_a_picture_and_a_page(compared):
    folder, shown, _ = compared
    assert "all 2 networks            needs 3 networks, got 2\n" in shown
    assert "Inconclusive: needs 6 networks, got 2." in shown
    for file in ("comparison.png", "comparison.csv", "report.html"):
        assert f" runs/pretrained/{file}\n" in shown
        assert (folder / file).exists()
    page = (folder / "report.html").read_text()
    assert "net0" in page
    assert "net2-net" in page


def test_an_earlier_profile_takes_no_checkpoint_and_is_not_empty(capsys):
    history_of(5.0).save("kept")
    assert "expected a network to load it" in refused(["profile", "kept", "--checkpoint=x"], capsys)
    History().save("empty")
    assert "expected records in empty, got none" in refused(["profile", "empty"], capsys)


def test_a_network_is_compared_once_and_needs_images_if_it_was_not_measured(capsys):
    for words, message in (
        (["study", "pretrained"], "expected images to measure efficientnet_lite0"),
        (["study", "pretrained", "--estimators=pca"], "expected twonn among them"),
        (["profile", "resnet18", "resnet18"], "expected every network once, got resnet18 again"),
    ):
        assert message in refused(words, capsys)


def history_of(value: float, accuracy: float | None = None, n_samples: int = 100) -> History:
    history = History()
    place = {"stage": "validate", "epoch": 0, "step": 0}
    common = {"layer": "pool", "estimator": "twonn", "order": 1, "std_error": 0.5}
    common |= {"n_samples": n_samples}
    history.append(**place, **common, value=value, role="last_hidden")
    if accuracy is not None:
        history.append_metrics(("validate", 0, 0), {"val_acc": accuracy})
    return history


def rows_of(points: dict) -> list:
    return compare({name: history_of(*point) for name, point in points.items()})


POINTS = {
    "alexnet": (25.19, 0.7909),
    "vgg11": (18.42, 0.8863),
    "vgg16": (15.87, 0.9038),
    "vgg19": (14.56, 0.9088),
    "vgg11_bn": (15.49, 0.8981),
    "resnet18": (18.64, 0.8908),
    "resnet50": (13.91, 0.9287),
    "resnet152": (12.44, 0.9406),
}  # of Ansuini et al. (2019)


def test_the_correlations_are_pearsons_overall_by_family_and_without_each():
    found = correlations(rows_of(POINTS))
    assert list(found) == [
        "all 8 networks",
        "family vgg",
        "family resnet",
        *(f"without {name}" for name in POINTS),
    ]

    def pearson(names):
        last, accuracy = np.array([POINTS[name] for name in names]).T
        return pytest.approx(np.corrcoef(last, 1 - accuracy)[0, 1])

    assert found["all 8 networks"].pearson.value == pearson(POINTS)
    assert found["family resnet"].pearson.value == pearson(["resnet18", "resnet50", "resnet152"])
    for out in POINTS:
        kept = [name for name in POINTS if name != out]
        assert found[f"without {out}"].pearson.value == pearson(kept)


def test_the_published_networks_have_the_published_correlations():
    figure, history = published()["fig4_last_hidden"], History()
    for name, value in figure["ID"].items():
        history.append(
            stage="validate", epoch=0, step=0, layer=name, estimator="twonn", value=value
        )
    errors = figure["top5_error"]
    found = correlations(
        [row_of(r["layer"], r, 1 - errors[r["layer"]] / 100) for r in history.records]
    )
    groups = ("all 14 networks", "family resnet", "without alexnet")
    assert ", ".join(f"{found[group].pearson.value:.2f} {group}" for group in groups) == OF_PAPER
    said = published()["text"]
    overall, resnets = found["all 14 networks"], found["family resnet"]
    assert overall.pearson.value == pytest.approx(said["last_hidden_pearson"], abs=0.005)
    assert resnets.pearson.value == pytest.approx(said["last_hidden_pearson_resnets"], abs=0.01)
    assert overall.sign == 1


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (1, "Reproduced: the higher the dimension, the higher the error."),
        (-1, "Not reproduced: the higher the dimension, the lower the error."),
    ],
)
def test_the_answer_follows_from_the_correlation(order, words):
    points = {f"net{i}": (20.0 + order * i, 0.9 - 0.01 * i) for i in range(8)}
    text = comparison_text(rows_of(points))
    assert text.splitlines()[-2] == words
    assert text.endswith(f"top-5 error on ImageNet: r = {OF_PAPER}.")
    unclear = {f"net{i}": (i % 2, 0.01 * i) for i in range(8)}
    assert "Not reproduced: no significant relation" in comparison_text(rows_of(unclear))


def test_too_few_networks_are_inconclusive():
    def overall(points):
        return " ".join(comparison_text(rows_of(points)).split("Pearson r")[1].split())

    two = {name: POINTS[name] for name in ("vgg11", "vgg16")}
    assert "all 2 networks needs 3 networks, got 2" in overall(two)
    three = overall(two | {"vgg19": POINTS["vgg19"]})
    assert "all 3 networks 0.99, no interval: needs 6 networks" in three
    assert "without vgg19 needs 3 networks, got 2" in three
    alike = overall({f"net{i}": (15.0, 0.5) for i in range(7)})
    assert "all 7 networks none: all errors or all dimensions are equal" in alike
    assert "Inconclusive: all errors or all dimensions are equal." in alike


def test_networks_measured_on_other_numbers_of_samples_are_not_comparable():
    rows = compare({"a": history_of(1.0, 0.5), "b": history_of(2.0, 0.6, n_samples=50)})
    assert "Not comparable: measured on 50, 100 samples" in comparison_text(rows)
    assert "Not comparable" not in comparison_text(rows[:1])


def test_a_network_without_a_number_is_in_the_table_and_in_no_correlation():
    rows = rows_of(POINTS | {"odd": (math.nan, 0.5), "blind": (20.0,)})
    assert correlations(rows) == correlations(rows_of(POINTS))
    lines = [" ".join(line.split()) for line in comparison_text(rows).splitlines()]
    assert "blind 20.00 ± 0.98 - -" in lines
    assert "odd - 50.0 % 50.0 ± 5.0 %" in lines
    assert "Not compared, without TwoNN or without an error: odd, blind." in lines


def test_the_picture_shows_every_network_that_has_numbers():
    rows = rows_of(POINTS | {"blind": (20.0,)})
    (axes,) = comparison_figure(rows).axes
    assert {text.get_text().strip() for text in axes.texts} == set(POINTS)
    assert "all 8 networks: Pearson r 0.97 [" in axes.figure.get_supxlabel()
