"""The digits: the content of a batch, and its order."""

import os

import pytest
import pytorch_lightning as pl
import torch
from torchvision.datasets import MNIST

from lightning_id.experiments.mnist import PIXEL_MEAN, PIXEL_STD, LabelledImages, MNISTDataModule
from tests.bare import without_data
from tests.experiments.digits import ready, write_mnist

FULL_MNIST = os.environ.get("LIGHTNING_ID_DATA")
needs_full_mnist = pytest.mark.skipif(
    not FULL_MNIST, reason="LIGHTNING_ID_DATA names no folder with the full MNIST"
)


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """A machine with no data, an empty cache and no network."""
    without_data(monkeypatch, tmp_path)


# --- what is in it --------------------------------------------------------------------------------


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
