import pytest

from tests.bare import make_bare


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """An empty working folder on a machine with no data and no network, other processes too."""
    make_bare(monkeypatch, tmp_path)
