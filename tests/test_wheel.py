"""The wheel, built and installed into an environment of its own, used from an empty folder."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.bare import without_data

ROOT = Path(__file__).parents[1]


def call(*command, **kwargs):
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, **kwargs
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    call(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        ROOT,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def command(wheel, tmp_path_factory):
    """`lightning-id` of an environment that has the wheel; its dependencies are the tests' own.

    The real thing, with its dependencies, takes minutes: a job of the continuous integration.
    """
    home = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", home)
    call(home / "bin" / "pip", "install", "--no-deps", wheel)
    (site,) = home.glob("lib/python*/site-packages")
    # Behind its own site-packages, so that lightning_id is the wheel's.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin" / "lightning-id"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder, on a machine without data."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    without_data(monkeypatch, tmp_path)
    return tmp_path


def test_it_holds_the_configs_and_everything_that_is_no_code(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"lightning_id/{path.relative_to(ROOT)}" for path in ROOT.glob("configs/**/*.yaml")}
    others = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "lightning_id").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert configs | others <= names
    assert not [name for name in names if name.startswith(("tests", "docs", "examples"))]


def test_a_config_of_the_wheel_trains_from_any_folder(command, elsewhere):
    call(
        command,
        "fit",
        "--config",
        "mnist.yaml",
        "--trainer.fast_dev_run=true",
        "--trainer.logger=false",
        cwd=elsewhere,
        timeout=200,
    )
