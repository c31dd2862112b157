import sys

import pytest

from tests.profile.photographs import make_files


@pytest.fixture
def photographs(monkeypatch, tmp_path):
    """Photographs, inputs and code in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    make_files()
    yield
    sys.modules.pop("nets_of_profile", None)
