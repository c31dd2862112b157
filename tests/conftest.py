import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """Folder with the full MNIST as torchvision lays it out."""
    root = os.environ.get("LIGHTNING_ID_DATA")
    if not root:
        pytest.skip("LIGHTNING_ID_DATA names no folder with the full MNIST")
    return Path(root)
