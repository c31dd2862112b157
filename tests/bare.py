"""A machine with nothing on it, for tests that must not read or fetch what is around them."""

from pathlib import Path

import pytest
from torchvision.datasets import MNIST

NOBODY = "http://127.0.0.1:9/"  # the discard port: the connection is refused at once


def without_data(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Leave no MNIST: none at hand, none in the cache, and nobody who has it.

    Args:
        patch: Undoes it.
        folder: Where the empty cache is.
    """
    patch.delenv("LIGHTNING_ID_DATA", raising=False)
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setattr(MNIST, "mirrors", [NOBODY])


def make_bare(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work in a folder without data, and let no process that is started here find a network.

    Args:
        patch: Undoes it.
        folder: The folder; it holds the empty cache, too.
    """
    patch.chdir(folder)
    without_data(patch, folder)
    for name in ("http_proxy", "https_proxy"):
        patch.setenv(name, NOBODY)
