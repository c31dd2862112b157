"""`lightning-id profile`: any network on any images, by the callback in `Trainer.validate`."""

import contextlib
import csv
import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lightning_id import History, record_activations
from lightning_id.cli import main
from lightning_id.experiments.pretrained import (
    OF_PAPER,
    Row,
    compare,
    comparison_figure,
    comparison_text,
    correlations,
)
from lightning_id.functional import ESTIMATORS, Geometry, registry
from lightning_id.profile.images import choose_images
from lightning_id.profile.networks import load_network
from lightning_id.profile.run import Settings, profile
from reproduction.published import published
from tests.commands import refused

# The first looks at the colour of an image and is right, the second says class 0 always.
NETS = """
import torch
from torch import nn

class Colours(nn.Module):
    def __init__(self, n_outputs=3):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(3, 6)
        self.fc = nn.Linear(6, n_outputs)
        nn.init.eye_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)
        nn.init.eye_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        self.features(x)
        return self.fc(self.hidden(self.pool(x).flatten(1)))

class Always0(Colours):
    def __init__(self):
        super().__init__()
        self.fc.bias.data[0] = 100

def two_outputs():
    return Colours(2)

class Pair(Colours):
    def forward(self, x):
        return super().forward(x), x

class Rows(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

class Words(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Embedding(50, 6), nn.Flatten(), nn.Linear(24, 5))

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.input = nn.Linear(6, 5)
    def forward(self, x):
        return self.input(x)
"""
N = 36
KINDS = ["Colours", "Always0", "two_outputs"]
QUICK = ["--image-size=16", "--batch-size=8"]


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Photographs, inputs and code in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    make_files()
    yield
    sys.modules.pop("nets_of_profile", None)


def make_files() -> None:
    """Write photographs of three colours, inputs, and code into the working folder."""
    Path("nets_of_profile.py").write_text(NETS)
    rng = np.random.default_rng(0)
    for i in range(N):
        size = (24, 20, 3) if i % 2 else (20, 30, 3)
        pixels = rng.integers(0, 100, size, dtype=np.uint8)
        pixels[..., i % 3] += 120
        path = Path(f"photos/class{i % 3}/{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    np.save("rows.npy", rng.standard_normal((200, 6)))


def run(*words: str) -> History:
    """Call the command as a user does."""
    main(["profile", *words, "--out=out"])
    return History.load("out")


def measured(model, data="photos", weights="trained", checkpoint=None, **settings) -> History:
    """Measure without the pictures and the page, which take most of the time."""
    settings = Settings(**{"image_size": 16, "batch_size": 8} | settings)
    return profile(f"nets_of_profile:{model}", choose_images(data), settings, checkpoint, weights)


def values(history: History, estimator: str = "twonn", stage: str = "validate") -> dict:
    return {r["layer"]: r["value"] for r in history.at((stage, 0, 0), estimator)}


def test_the_numbers_are_those_of_the_functional_on_the_same_rows():
    history = measured("Colours")
    network = load_network("nets_of_profile:Colours", image_size=16)
    inputs = choose_images("photos").prepared(network.transform)
    layers = ["input", "features.2", "pool", "hidden", "fc"]
    with record_activations(network.module.eval(), layers) as rows, torch.no_grad():
        for batch in DataLoader(inputs, batch_size=5):
            network.module(batch[0])
    for estimator in ("twonn", "pca"):
        expected = {name: float(ESTIMATORS[estimator](Geometry(rows[name]))) for name in layers}
        assert values(history, estimator) == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_a_history_a_picture_a_table_and_a_page_are_there_and_it_says_where(capsys):
    Path("photos/class1/broken.png").write_text("no image")
    history = run("nets_of_profile:Colours", "--data=photos", *QUICK)
    shown = capsys.readouterr().out
    assert [r["n_samples"] for r in history.records] == [N] * 10
    assert f"{N} of the {N + 1} images in photos, 2 sizes from 20x24 to 30x20" in shown
    assert "broken images left out: 1, for example photos/class1/broken.png" in shown
    assert f"expected 2000 images, got {N} usable ones" in shown
    assert "nets_of_profile:Colours: accuracy 100.0% (validate)" in shown
    assert len(re.findall(r"^layer +depth +width +TwoNN +PCA 90 %$", shown, re.MULTILINE)) == 1
    assert "Untrained network: Not measured" in shown
    for file in ("profile.png", "history.csv"):
        assert f" out/{file}\n" in shown
        assert Path("out", file).exists()
    assert " out/report.html\n" in shown
    assert "features.2" in Path("out/report.html").read_text()


def test_what_was_measured_before_has_its_page_where_it_is_asked_for(capsys):
    measured("Rows", "rows.npy").save("before")
    main(["profile", "before", "--out=out"])
    assert capsys.readouterr().out.endswith(" out/report.html\n")
    assert Path("out/report.html").exists()
    assert not Path("before/report.html").exists()
    main(["profile", "before"])
    assert Path("before/report.html").exists()


def test_untrained_has_a_folder_of_its_own_and_is_the_network_before_training(capsys):
    words = ["--data=rows.npy", "--untrained", "--layers=input,2", "--estimators=gride,pca"]
    main(["profile", "nets_of_profile:Rows", *words])
    history = History.load("runs/profile/nets_of_profile-Rows-untrained")
    assert {r["stage"] for r in history.records} == {"before_training"}
    assert {stage for stage, _, _ in history.spectra} == {"before_training"}
    assert list(values(history, "gride", "before_training")) == ["input", "last_hidden", "2"]
    shown = capsys.readouterr().out
    assert "Rows: no accuracy" in shown
    assert "Gride  PCA 90 %\n" in shown


def test_both_puts_the_untrained_network_before_the_trained_one(capsys):
    both = run("nets_of_profile:Rows", "--data=rows.npy", "--both")
    assert both.validations() == [("before_training", 0, 0), ("validate", 0, 0)]
    assert list(both.spectra) == both.validations()
    assert "TwoNN  PCA 90 %  TwoNN before  PCA before" in capsys.readouterr().out
    for weights, stage in (("untrained", "before_training"), ("trained", "validate")):
        alone = measured("Rows", "rows.npy", weights)
        assert values(alone, stage=stage) == pytest.approx(values(both, stage=stage), nan_ok=True)
    assert values(both, stage="before_training") != values(both)


def test_the_same_seed_gives_the_same_numbers():
    first, again = (values(measured("Rows", "rows.npy", seed=1)) for _ in range(2))
    assert first == again
    assert values(measured("Rows", "rows.npy", seed=2)) != first


def test_the_accuracy_is_the_share_of_right_answers_and_has_the_stage_of_its_network():
    history = measured("Always0", weights="both")
    assert [(m["stage"], m["name"]) for m in history.metrics] == [
        ("before_training", "val_acc"),
        ("validate", "val_acc"),
    ]
    assert history.metrics[1]["value"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("model", ["two_outputs", "Pair"])
def test_there_is_no_accuracy_where_labels_do_not_fit_the_output(model):
    history = measured(model)
    assert history.metrics == []
    assert values(history)


def test_inputs_of_a_file_are_measured_as_they_are():
    rows = torch.from_numpy(np.load("rows.npy")).float()
    expected = float(ESTIMATORS["twonn"](Geometry(rows)))
    assert values(measured("Rows", "rows.npy"))["input"] == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_whole_numbers_of_a_file_are_token_ids(dtype):
    np.save("ids.npy", np.random.default_rng(0).integers(0, 50, (40, 4)).astype(dtype))
    history = measured("Words", "ids.npy", layers=["0", "2"])
    assert math.isfinite(values(history)["2"])


def test_uint8_of_a_file_is_pixels():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 6), dtype=np.uint8)
    np.save("pixels.npy", pixels)
    expected = float(ESTIMATORS["twonn"](Geometry(torch.from_numpy(pixels).float())))
    assert values(measured("Rows", "pixels.npy"))["input"] == pytest.approx(expected)


def test_an_estimator_that_is_registered_when_the_network_is_imported_has_its_name(monkeypatch):
    monkeypatch.setattr(registry, "ESTIMATORS", dict(ESTIMATORS))
    Path("registers.py").write_text(
        "from lightning_id.functional import pca_dimension, register_estimator\n"
        "from nets_of_profile import Rows\n"
        "register_estimator('pca99', lambda geometry: pca_dimension(geometry, 0.99))\n"
    )
    history = run("registers:Rows", "--data=rows.npy", "--estimators=pca99", "--layers=2")
    sys.modules.pop("registers")
    assert values(history, "pca99")["2"] == 3


def test_a_layer_that_is_called_input_keeps_its_whole_name():
    assert set(values(measured("Flat", "rows.npy"))) == {"input", "network.input"}


def test_layers_estimators_and_the_rule_can_be_chosen():
    history = measured(
        "Colours",
        layers=["input", "hidden", "re:features.[02]"],
        reduce="mean",
        estimators=["gride", "twonn_gaussian"],
    )
    assert list(values(history, "gride")) == ["input", "features.0", "features.2", "hidden"]
    assert {r["estimator"] for r in history.records} == {"gride", "twonn_gaussian"}
    assert {r["reduce"] for r in history.records} == {"mean"}


def test_classes_are_measured_by_themselves():
    history = measured("Colours", per_class=12)
    assert {r["label"] for r in history.records} == {None, "class0", "class1", "class2"}
    assert {r["n_samples"] for r in history.records if r["label"]} == {12}


def test_neither_the_batch_size_nor_the_memory_limit_changes_a_number():
    other = measured("Colours", batch_size=5, memory_limit=1e-6)
    assert values(other) == pytest.approx(values(measured("Colours")), rel=1e-5, nan_ok=True)


def test_a_checkpoint_is_measured():
    network = load_network("nets_of_profile:Rows", seed=5).module
    torch.save(network.state_dict(), "weights.pt")
    found = values(measured("Rows", "rows.npy", checkpoint="weights.pt"))
    assert found == values(measured("Rows", "rows.npy", seed=5))


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nets_of_profile:Colours", "--data=nowhere"], "nowhere', which does not exist"),
        (["resnet5", "--data=photos"], "Close: 'resnet50'"),
        (["nets_of_profile:Colours", "--data=photos", "--estimators=two"], "no estimator named"),
        (["nets_of_profile:Colours", "--data=photos", "--layers=fcc"], "No layer of Colours"),
        (["nets_of_profile:Colours", "--data=rows.npy"], "cannot take inputs of (1, 6)"),
        (["nets_of_profile:Rows", "--data=rows.npy", "--per-class"], "images with labels, got n"),
        (["nets_of_profile:Rows", "resnet18", "--data=rows.npy", "--checkpoint=x"], "expected one"),
        (["nets_of_profile:Rows", "--data=rows.npy", "--untrained", "--both"], "not allowed with"),
        (["nets_of_profile:Rows", "--data=rows.npy", "--checkpoint=x"], "No such file"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_ends_the_command(words, message, capsys):
    assert message in refused(["profile", *words], capsys)
    assert not Path("runs").exists()


def test_the_help_says_what_can_be_given(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["profile", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("MODEL", "--both", "--per-class", "torchvision"))
    assert all(name in shown for name in ESTIMATORS)


def test_a_layer_that_is_not_there_is_told_the_names_as_they_are_in_the_network(capsys):
    said = refused(["profile", "nets_of_profile:Rows", "--data=rows.npy", "--layers=9"], capsys)
    assert "No layer of Rows matches '9'. Names: input, last_hidden, 0, 1, 2\n" in said


# --- several networks ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[Path, str, dict]:
    """Folder, words and measurements of a study of three networks, of which two were measured."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as shown:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        make_files()
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
        [Row(r["layer"], r, 1 - errors[r["layer"]] / 100) for r in history.records]
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


def test_fewer_networks_than_tell_anything_are_told():
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
