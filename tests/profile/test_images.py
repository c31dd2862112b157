"""Which images `lightning-id profile` takes, and the errors for others."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from lightning_id.profile.images import Prepared, choose_images
from lightning_id.recording.samples import choose_samples

TO_TENSOR = transforms.Compose([transforms.Resize((4, 4)), transforms.ToTensor()])


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No download, whatever the machine."""
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def write(path: Path, grey: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).convert(mode).save(path)


def folder_of_classes(n_classes: int = 3, n_each: int = 4) -> str:
    """Images whose grey value is their place in the sorted order."""
    for label in range(n_classes):
        for i in range(n_each):
            write(Path(f"photos/class{label}/{i}.png"), label * n_each + i)
    return "photos"


def greys_and_labels(pictures):
    batches = list(DataLoader(Prepared(pictures, TO_TENSOR), batch_size=5))
    greys = torch.cat([batch[0] for batch in batches]).mul(255).round().int()
    assert greys.shape[1:] == (3, 4, 4)
    assert (greys == greys[:, :1, :1, :1]).all()
    labels = [label for batch in batches for labels in batch[1:] for label in labels.tolist()]
    return greys[:, 0, 0, 0].tolist(), labels


def test_all_images_of_a_folder_of_classes_come_in_sorted_order_with_their_labels():
    pictures = choose_images(folder_of_classes(), n_samples=12)
    assert greys_and_labels(pictures) == (list(range(12)), [0] * 4 + [1] * 4 + [2] * 4)
    assert pictures.classes == ["class0", "class1", "class2"]
    assert pictures.notes == ["12 of the 12 images in photos, 8x8"]


@pytest.mark.parametrize("seed", [0, 1])
def test_some_images_are_chosen_by_a_private_seed_as_the_callback_chooses(seed):
    before = torch.get_rng_state()
    pictures = choose_images(folder_of_classes(), n_samples=5, seed=seed)
    assert torch.equal(before, torch.get_rng_state())
    greys, _ = greys_and_labels(pictures)
    assert greys == choose_samples(12, 5, seed).tolist()
    assert greys != choose_samples(12, 5, 1 - seed).tolist()


def test_broken_images_are_counted_and_others_take_their_place():
    folder = folder_of_classes()
    chosen = choose_samples(12, 5, 0).tolist()
    whole = Path(f"photos/class{chosen[0] // 4}/{chosen[0] % 4}.png")
    write(whole, 0, size=(500, 500))
    whole.write_bytes(whole.read_bytes()[:-700])  # truncated: its head still reads
    Path(f"photos/class{chosen[1] // 4}/{chosen[1] % 4}.png").write_text("no image")
    pictures = choose_images(folder, n_samples=5)
    greys, _ = greys_and_labels(pictures)
    assert len(greys) == 5
    assert set(chosen[2:]) < set(greys)
    assert not {chosen[0], chosen[1]} & set(greys)
    assert pictures.notes[0] == "5 of the 12 images in photos, 8x8"
    assert pictures.notes[1].startswith("broken images left out: 2, for example photos/class")
    assert len(pictures.notes) == 2


def test_fewer_images_than_asked_are_all_taken_and_counted():
    folder = folder_of_classes()
    Path("photos/class1/0.png").write_text("no image")
    pictures = choose_images(folder, n_samples=2000)
    assert len(greys_and_labels(pictures)[0]) == 11
    assert pictures.notes[2].startswith("expected 2000 images, got 11 usable ones")


def test_mixed_sizes_are_noted_and_made_equal():
    folder = folder_of_classes()
    write(Path("photos/class0/0.png"), 0, size=(30, 20))
    pictures = choose_images(folder, n_samples=12)
    assert greys_and_labels(pictures)[0] == list(range(12))
    assert pictures.notes == ["12 of the 12 images in photos, 2 sizes from 8x8 to 30x20"]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_images_of_every_mode_become_rgb(mode):
    for i in range(3):
        write(Path(f"photos/{i}.tiff"), 255, mode=mode)
    assert greys_and_labels(choose_images("photos"))[0] == [255] * 3


def test_a_folder_without_classes_has_no_labels():
    for i in range(5):
        write(Path(f"photos/{i}.JPG"), 10 * i)
    Path("photos/notes.txt").write_text("no image")
    Path("photos/thumbnails").mkdir()
    pictures = choose_images("photos")
    greys, labels = greys_and_labels(pictures)
    assert greys == pytest.approx([0, 10, 20, 30, 40], abs=2)
    assert labels == []
    assert pictures.classes is None


def test_an_empty_class_keeps_its_label():
    folder = folder_of_classes()
    Path("photos/class00").mkdir()  # between class0 and class1
    pictures = choose_images(folder)
    assert greys_and_labels(pictures)[1] == [0] * 4 + [2] * 4 + [3] * 4
    assert pictures.classes == ["class0", "class00", "class1", "class2"]


# --- data sets of torchvision --------------------------------------------------------------------


def write_mnist(root: Path, n: int = 6) -> None:
    """Digits in the format of MNIST; the test images are as grey as their number."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, offset in (("train", 100), ("t10k", 0)):
        images = np.zeros((n, 28, 28), dtype=np.uint8) + np.arange(n, dtype=np.uint8)[:, None, None]
        images += offset
        labels = np.arange(n, dtype=np.uint8) % 10
        head = struct.pack(">4i", 2051, n, 28, 28)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 2049, n) + labels.tobytes()
        )
    for file in list(raw.iterdir()):
        with gzip.open(f"{file}.gz", "wb") as packed:
            packed.write(file.read_bytes())


def test_a_data_set_of_torchvision_gives_its_test_split():
    write_mnist(Path("data"))
    pictures = choose_images("MNIST:data")
    assert greys_and_labels(pictures) == (list(range(6)), list(range(6)))
    assert len(pictures.classes) == 10
    assert pictures.notes[0] == "6 of the 6 images in MNIST:data, 28x28"


def test_of_one_with_named_splits_it_is_the_test_split_too():
    for i in range(3):
        write(Path(f"data/gtsrb/GTSRB/Final_Test/Images/{i}.ppm"), i)
    rows = "".join(f"{i}.ppm;{2 * i}\n" for i in range(3))
    Path("data/gtsrb/GT-final_test.csv").write_text(f"Filename;ClassId\n{rows}")
    pictures = choose_images("GTSRB:data")
    assert greys_and_labels(pictures) == ([0, 1, 2], [0, 2, 4])
    assert pictures.classes == [
        "0",
        "1",
        "2",
        "3",
        "4",
    ]  # it names no classes: all up to the largest label


def test_one_that_is_not_there_and_cannot_be_downloaded_raises():
    with pytest.raises(ValueError, match="expected CIFAR10 in data, got none there and no down"):
        choose_images("CIFAR10:data")


def test_one_that_lies_in_no_folder_is_refused():
    with pytest.raises(ValueError, match="expected a data set that is kept in a folder"):
        choose_images("FakeData:data")


def test_targets_that_are_no_classes_are_no_labels():
    voc = Path("data/VOCdevkit/VOC2012")
    for i in range(3):
        write(voc / f"JPEGImages/{i}.jpg", i)
    for folder in ("Annotations", "ImageSets/Main"):
        (voc / folder).mkdir(parents=True)
    (voc / "ImageSets/Main/train.txt").write_text("0\n1\n2\n")
    for i in range(3):
        (voc / f"Annotations/{i}.xml").write_text("<annotation><object>1</object></annotation>")
    pictures = choose_images("VOCDetection:data")
    assert greys_and_labels(pictures) == ([0, 1, 2], [])
    assert pictures.classes is None


# --- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_inputs_are_given_to_the_network_as_they_are(dtype):
    rows = (np.random.default_rng(0).random((10, 3, 5)) * 255).astype(dtype)
    np.save("rows.npy", rows)
    pictures = choose_images("rows.npy", n_samples=4)
    (inputs,) = next(iter(DataLoader(Prepared(pictures, TO_TENSOR), batch_size=4)))
    chosen = choose_samples(10, 4, 0).numpy()
    np.testing.assert_array_equal(inputs.numpy(), rows[chosen].astype(np.float32))
    assert pictures.classes is None
    assert pictures.notes == ["4 of the 10 inputs in rows.npy, 3x5"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", r"got 'nowhere', which does not exist"),
        ("CIFAR:data", r"got 'CIFAR'\. Close: 'CIFAR10'"),
        ("empty", r"at least 3 usable images in empty, got 0$"),
        ("broken", r"at least 3 usable images in broken, got 2 and 2 broken, for example: broken/"),
        ("nothing.npy", r"expected an array of numbers in nothing.npy: EOF"),
        ("several.npy", r"expected an array of numbers in several.npy: the magic"),
        ("flat.npy", r"expected inputs \(n, \.\.\.\) in flat.npy, got \(5,\)"),
    ],
)
def test_what_cannot_be_measured_raises(data, message):
    Path("empty").mkdir()
    np.save("flat.npy", np.zeros(5))
    Path("nothing.npy").touch()
    with Path("several.npy").open("wb") as file:
        np.savez(file, a=np.zeros((5, 2)))
    for i in range(4):
        write(Path(f"broken/{i}.png"), 0)
    for i in range(2):
        Path(f"broken/{i}.png").write_text("no image")
    with pytest.raises(ValueError, match=message):
        choose_images(data)


def test_an_array_of_objects_is_refused():
    np.save("objects.npy", np.array([{"a": 1}, None, 3], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"expected an array of numbers in objects.npy: .*objects"):
        choose_images("objects.npy")


def test_two_images_are_too_few_to_ask_for():
    with pytest.raises(ValueError, match="`--n-samples`: expected at least 3, got 2"):
        choose_images(folder_of_classes(), n_samples=2)
