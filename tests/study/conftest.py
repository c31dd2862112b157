import pytest

from lightning_id.study import executors
from tests.bare import make_bare
from tests.processes import fork_commands


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """An empty working folder on a machine with no data and no network, other processes too."""
    make_bare(monkeypatch, tmp_path)


@pytest.fixture
def forks(monkeypatch):
    """Fork the processes of trainings, for facts that do not depend on how they start."""
    fork_commands(monkeypatch, executors)
