"""The data sets by name: files, normalisation, subsets, label noise, luminance, augmentation."""

import pickle

import pytest
import pytorch_lightning as pl
import torch
from torch.nn.functional import pad
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from lightning_id.experiments.images import PIXELS, ImageDataModule, LabelledImages, permute_labels
from lightning_id.experiments.mnist_variants import LuminanceMNIST, ShuffledMNIST
from tests.bare import NOBODY, without_data
from tests.image_files import write_cifar, write_idx

NAMES = ["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"]


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    """A folder with 60 training and 20 test images of every data set; there are no others."""
    without_data(monkeypatch, tmp_path)
    folder = tmp_path / "root"
    for name in NAMES[:2]:
        write_idx(folder, name, 60, 20, seed=0)
    for kind in (CIFAR10, CIFAR100):
        write_cifar(folder, monkeypatch, kind, 60, 20)
    return folder


def ready(name, root, stage="fit", **arguments):
    data = ImageDataModule(name, root=root, **arguments)
    data.prepare_data()
    data.setup(stage)
    return data


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "size"), [(n, 3 if "C" in n else 1, 32 if "C" in n else 28) for n in NAMES]
)
def test_every_data_set_gives_all_its_images_with_their_channels(name, channels, size, root):
    data = ready(name, root)
    assert data.train_set.images.shape == (60, channels, size, size)
    assert data.val_set.images.shape == (20, channels, size, size)
    assert data.val_set.labels.tolist() == [
        i % (100 if name == "CIFAR100" else 10) for i in range(20)
    ]


def test_colour_images_equal_the_file_standardised_channel_by_channel(root):
    images = ready("CIFAR10", root).val_set.images
    raw = pickle.loads((root / CIFAR10.base_folder / "test_batch").read_bytes())["data"]
    pixels = torch.tensor(raw, dtype=torch.float64).view(20, 3, 32, 32) / 255
    mean, std = (torch.tensor(each, dtype=torch.float64) for each in PIXELS["CIFAR10"])
    expected = (pixels - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(images.double(), expected, atol=1e-5, rtol=0)


def test_without_normalisation_pixels_are_in_the_unit_interval(root):
    for name in NAMES:
        images = ready(name, root, normalize=False).train_set.images
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_root_without_the_data_set_is_an_error_that_names_its_folder(name, root, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=f"Expected {name} as torchvision stores it in root"
    ):
        ImageDataModule(name, root=tmp_path / "empty").prepare_data()


def test_a_data_set_that_cannot_be_downloaded_is_an_error_and_no_other_takes_its_place(monkeypatch):
    monkeypatch.setattr(FashionMNIST, "mirrors", [NOBODY])
    with pytest.raises(FileNotFoundError, match="Expected FashionMNIST, got none, and no download"):
        ImageDataModule("FashionMNIST").prepare_data()
    with pytest.raises(FileNotFoundError, match="no download: download=False"):
        ImageDataModule("CIFAR10", download=False).prepare_data()


# --- subsets and labels ---------------------------------------------------------------------------


def rows_of(images):
    return {tuple(image.flatten().tolist()) for image in images}


def test_a_random_subset_depends_on_its_seed_and_contains_the_smaller_ones(root):
    ten, twenty = (ready("CIFAR10", root, n_train=n, subset_seed=1).train_set for n in (10, 20))
    assert torch.equal(twenty.images[:10], ten.images)
    other = ready("CIFAR10", root, n_train=10, subset_seed=2).train_set
    assert rows_of(other.images) != rows_of(ten.images)
    assert rows_of(twenty.images) < rows_of(ready("CIFAR10", root).train_set.images)


def test_label_noise_permutes_its_share_of_the_training_labels_and_nothing_else(root):
    plain, noisy = (ready("CIFAR100", root, label_noise=share) for share in (0, 0.5))
    assert torch.equal(noisy.train_set.images, plain.train_set.images)
    assert torch.equal(noisy.val_set.labels, plain.val_set.labels)
    assert torch.equal(noisy.train_set.labels.sort()[0], plain.train_set.labels.sort()[0])
    assert 20 <= (noisy.train_set.labels != plain.train_set.labels).sum() <= 30


def test_noise_of_all_labels_is_that_of_the_shuffled_mnist(root):
    ours = ready("MNIST", root, label_noise=1, label_seed=3).train_set.labels
    theirs = ShuffledMNIST(root=root, label_seed=3)
    theirs.setup("fit")
    assert torch.equal(theirs.train_set.labels, ours)


def test_a_luminance_is_that_of_the_luminance_mnist(root):
    theirs = LuminanceMNIST(root=root, offsets=[10, 1000], offset_seed=2)
    theirs.setup("fit")
    ours = ready("MNIST", root, luminance=[10, 1000], luminance_seed=2)
    assert torch.equal(theirs.train_set.images, ours.train_set.images)
    assert torch.equal(theirs.val_set.images, ours.val_set.images)


def test_a_luminance_of_colour_images_is_one_number_for_all_channels(root):
    images = ready("CIFAR10", root, luminance=[1000.0], normalize=False).train_set.images
    spread = images.flatten(1).amax(1) - images.flatten(1).amin(1)
    assert spread.max() < 2e-3  # a picture in [0, 1] next to a luminance up to 1000
    assert images.flatten(1).mean(1).std() > 0.2


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_permuted_labels_do_not_depend_on_the_global_generator(share):
    assert permute_labels(torch.arange(8), 0.5, seed=0).tolist() == [7, 1, 2, 0, 3, 5, 6, 4]
    state = torch.get_rng_state()
    first = permute_labels(torch.arange(50), share, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(permute_labels(torch.arange(50), share, seed=4), first)
    assert (first != torch.arange(50)).sum() <= round(50 * share)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_noise": 1.5}, r"`label_noise`: expected a share in \[0, 1\], got 1.5"),
        ({"luminance": [10, 0]}, "`luminance`: expected numbers above 0"),
        ({"n_val": 0}, "`n_val`: expected at least 1, got 0"),
    ],
)
def test_an_argument_out_of_its_range_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageDataModule("CIFAR10", **arguments)


# --- augmentation ---------------------------------------------------------------------------------


def test_an_augmented_image_is_a_crop_of_the_padded_image_or_of_its_mirror(root):
    plain = ready("CIFAR10", root).train_set.images
    augmented = ready("CIFAR10", root, augment=True).train_set
    pl.seed_everything(0)
    images, _ = augmented.__getitems__(list(range(60)))
    found = []
    for image, original in zip(images, plain, strict=True):
        crops = {
            (is_flipped, top, left): padded[:, top : top + 32, left : left + 32]
            for is_flipped, padded in (
                (f, pad(original.flip(-1) if f else original, [4] * 4)) for f in (False, True)
            )
            for top in range(9)
            for left in range(9)
        }
        found.append([place for place, crop in crops.items() if torch.equal(crop, image)])
    assert all(len(places) == 1 for places in found)
    flipped, tops, lefts = zip(*(place for (place,) in found), strict=True)
    assert 15 < sum(flipped) < 45
    assert set(tops) == set(lefts) == set(range(9))


def test_validation_images_are_not_augmented_and_training_ones_follow_the_global_seed(root):
    plain, augmented = (ready("CIFAR10", root, augment=on) for on in (False, True))
    assert torch.equal(augmented.val_set[3][0], plain.val_set[3][0])
    assert torch.equal(augmented.train_set.images, plain.train_set.images)
    batches = []
    for seed in (0, 0, 1):
        pl.seed_everything(seed)
        batches.append(next(iter(augmented.train_dataloader()))[0])
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_images_of_one_channel_need_no_axis_for_it():
    images = torch.zeros(2, 4, 4, dtype=torch.uint8)
    assert LabelledImages(images, torch.zeros(2, dtype=torch.int64)).images.shape == (2, 1, 4, 4)
