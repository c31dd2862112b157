import pytest
from torchvision.datasets import MNIST

NOBODY = "http://127.0.0.1:9/"  # the discard port: the connection is refused at once


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """An empty working folder on a machine with no data and no network, other processes too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIGHTNING_ID_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(MNIST, "mirrors", [NOBODY])
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, NOBODY)
