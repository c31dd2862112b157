import pytest

from tests.bare import NOBODY, without_data


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """An empty working folder on a machine with no data and no network, other processes too."""
    monkeypatch.chdir(tmp_path)
    without_data(monkeypatch, tmp_path)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, NOBODY)
