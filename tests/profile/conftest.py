import sys

import pytest

from tests.profile.photographs import make_files
from tests.quick import draw_quickly


@pytest.fixture
def photographs(monkeypatch, tmp_path):
    """Photographs, inputs and code in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    make_files()
    draw_quickly(monkeypatch)
    yield
    sys.modules.pop("nets_of_profile", None)
