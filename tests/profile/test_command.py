"""`lightning-id profile`: files, output and errors of the command."""

import re
import sys
from pathlib import Path

import pytest

from lightning_id import History
from lightning_id.__main__ import main
from lightning_id.functional import ESTIMATORS, registry
from tests.commands import refused
from tests.profile.photographs import QUICK, N, measured, run, values

pytestmark = pytest.mark.usefixtures("photographs")


def test_a_history_a_picture_a_table_and_a_page_are_there_and_it_prints_where(capsys):
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


def test_a_layer_that_is_not_there_lists_the_names_as_in_the_network(capsys):
    said = refused(["profile", "nets_of_profile:Rows", "--data=rows.npy", "--layers=9"], capsys)
    assert "No layer of Rows matches '9'. Names: input, last_hidden, 0, 1, 2\n" in said
