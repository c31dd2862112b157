"""A finished MNIST run, looked at in TensorBoard in a real browser."""

import sys
from pathlib import Path

import pytest

from lightning_id.__main__ import main
from tests import screenshots
from tests.bare import without_data
from tests.browser import find_chromium
from tests.test_configs import CONFIGS, FEW, LAYERS

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="chromium and chromedriver are missing"
)
MEASURED = 4  # before training, and after each epoch


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["lightning-id"])
        without_data(patch, folder)
        # Of so few rows there is no expected simplex skewness, whose chart would be empty.
        plain = (CONFIGS / "mnist.yaml").read_text().replace("[twonn, pca, ess]", "[twonn, pca]")
        Path("mnist.yaml").write_text(plain)
        fit = ["fit", "--config", "mnist.yaml", *FEW, "--data.n_val=96", "--trainer.max_epochs=3"]
        main(fit)
    return folder / "runs" / "mnist" / "version_0"


@pytest.fixture(scope="module")
def drawn(run, tmp_path_factory):
    """What the script of the README's pictures finds drawn on each page; and its pictures."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    folder = tmp_path_factory.mktemp("pictures")
    return screenshots.look(run, folder), folder


def test_the_page_of_custom_scalars_draws_every_layer_and_the_last_hidden_one(drawn):
    page = drawn[0]["custom_scalars"]
    assert page["TwoNN"] == [MEASURED] * len(LAYERS)
    assert page["PCA 90 %"] == [MEASURED] * len(LAYERS)
    assert page["Last hidden layer"] == [MEASURED] * 3  # the value and the ends of its interval
    assert "val_acc" in page


def test_the_summary_is_drawn_on_the_page_of_scalars(drawn):
    page = drawn[0]["scalars"]
    for key in ("last_hidden", "last_hidden_low", "last_hidden_high", "peak", "peak_depth"):
        assert page[f"id/{key}"] == [MEASURED], key


def test_one_chart_has_a_line_for_each_layer(drawn):
    page = drawn[0]["scalars"]
    assert page["id/twonn"] == page["id/pca"] == [MEASURED] * len(LAYERS)


def test_the_pictures_are_on_the_page_of_images(drawn):
    page = drawn[0]["images"]
    assert sorted(page) == ["id/depth_profile", "id/heat_map", "id/layers_over_time"]
    assert all(width > 600 for widths in page.values() for width in widths)


def test_the_report_names_the_layers_below_their_profile(drawn):
    names = ["input", "conv1, pool1", "conv2, pool2", "d1", "output"]
    assert drawn[0]["report"] == {"layers": names}


def test_every_page_has_its_picture(drawn):
    names = [f"tensorboard_{page}.png" for page in ("custom_scalars", "images", "scalars")]
    assert sorted(path.name for path in drawn[1].iterdir()) == ["report.png", *names]


def test_what_is_drawn_is_said_and_what_is_not_is_an_error(drawn, capsys):
    screenshots.say(drawn[0])
    assert "TwoNN" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="images: not everything is drawn"):
        screenshots.say(drawn[0] | {"images": {"id/heat_map": []}})
