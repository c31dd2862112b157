"""A guest that does no harm: the training is the same to the last bit, nothing is left behind."""

import gc
import os
import warnings
import weakref

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_id import IntrinsicDimensionCallback
from tests.processes import in_process
from tests.toys import Toy, averaged_weights, count_hooks, fitted, loader, validated


class TwoOptimizers(Toy):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self):
        early, late = list(self.net[:4].parameters()), list(self.net[4:].parameters())
        return torch.optim.Adam(early, 1e-3), torch.optim.SGD(late, 0.05)


WAYS = {
    "plain": (Toy, {}),
    "accumulated gradients": (Toy, {"accumulate_grad_batches": 3}),
    "two optimizers": (TwoOptimizers, {}),
    "bfloat16": (Toy, {"precision": "bf16-mixed"}),
    "averaged weights": (Toy, {"average": True}),
    "several validations an epoch": (Toy, {"val_check_interval": 2}),
}


def everything(folder, kind, watched, average=False, **kwargs):
    """Train; return weights, optimiser states, logged metrics, generator and modes."""
    pl.seed_everything(7, verbose=False)
    callbacks = [averaged_weights(0.9)] if average else []
    if watched:
        callbacks.append(IntrinsicDimensionCallback(n_samples=40))
    model = kind()
    model.net[1].eval()  # a batch norm that the user froze
    runner = fitted(
        folder,
        *callbacks,
        model=model,
        train=loader(shuffle=True),
        num_sanity_val_steps=-1,
        **kwargs,
    )
    tensors = [*model.state_dict().values()]
    for optimizer in runner.optimizers:
        for state in optimizer.state_dict()["state"].values():
            tensors += [x for x in state.values() if isinstance(x, torch.Tensor)]
    metrics = {k: v for k, v in runner.callback_metrics.items() if not k.startswith("id")}
    return {
        "tensors": tensors,
        "metrics": [metrics[key] for key in sorted(metrics)],
        "random": [torch.get_rng_state()],
        "modes": [module.training for module in model.modules()],
        "names": [name for name, _ in model.named_modules()],
        "buffers": [name for name, _ in model.named_buffers()],
        "attributes": sorted(vars(model)),
        "hooks": count_hooks(model),
    }


@pytest.mark.parametrize("way", WAYS)
def test_nothing_differs_with_and_without_the_callback(way, tmp_path):
    kind, kwargs = WAYS[way]
    plain = everything(tmp_path, kind, watched=False, **kwargs)
    is_coarse = kwargs.get("precision") == "bf16-mixed"
    with warnings.catch_warnings():
        if is_coarse:  # whether rows of bfloat16 tie depends on the kernels of the machine
            warnings.filterwarnings("ignore", message=".*too coarse")
        watched = everything(tmp_path, kind, watched=True, **kwargs)
    assert plain.keys() == watched.keys()
    for name in ("tensors", "metrics", "random"):
        assert len(plain[name]) == len(watched[name]) > 0
        for a, b in zip(plain[name], watched[name], strict=True):
            assert torch.equal(a, b), name
    for name in ("modes", "names", "buffers", "attributes", "hooks"):
        assert plain[name] == watched[name], name


def test_averaged_weights_are_measured_wherever_the_callback_stands(tmp_path):
    seen = []
    for first in (True, False):
        pl.seed_everything(7, verbose=False)
        ours, average = IntrinsicDimensionCallback(["net.5"]), averaged_weights(0.5)
        callbacks = [ours, average] if first else [average, ours]
        fitted(tmp_path, *callbacks)
        seen.append([r["value"] for r in ours.history.records])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 8


def test_bfloat16_features_are_measured_in_float32_and_their_dtype_is_recorded(tmp_path):
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        callback = IntrinsicDimensionCallback(["input", "net.5"])
        pl.seed_everything(0, verbose=False)
        validated(tmp_path, callback, model=Toy(), data=loader(300), precision=precision)
        records = [r for r in callback.history.records if r["estimator"] == "twonn"]
        found[precision] = {r["layer"]: r for r in records}
    mixed, full = found["bf16-mixed"], found["32-true"]
    assert [mixed[layer]["dtype"] for layer in ("input", "net.5")] == ["float32", "bfloat16"]
    assert mixed["input"]["value"] == full["input"]["value"]  # a matrix product in bfloat16 shows
    assert full["net.5"]["low"] < mixed["net.5"]["value"] < full["net.5"]["high"]


def test_coarse_features_are_warned_of_once_with_the_name_of_the_layer(tmp_path):
    class Coarse(Toy):
        def validation_step(self, batch, batch_idx):
            self.net[5](batch[0].flatten(1)[:, :36])

    callback = IntrinsicDimensionCallback(["net.5"], n_samples=400)
    model = Coarse()
    # Two pixels, seeded normal numbers of mean 4: bfloat16 puts them on a grid on which 1 to 6 % of
    # the rows have two nearest neighbours at one distance, whatever the seed.
    with torch.no_grad():
        nn.init.eye_(model.net[5].weight)[2:] = 0
        model.net[5].bias.fill_(4)
    model.net[5].bfloat16()
    model.net[5].register_forward_pre_hook(lambda _, args: (args[0].bfloat16(),))
    with pytest.warns(UserWarning, match="too coarse") as caught:
        validated(tmp_path, callback, model=model, data=loader(400))
    said = [str(w.message) for w in caught if "too coarse" in str(w.message)]
    assert [text.split("'")[1] for text in said] == ["net.5"]
    noted = [r["layer"] for r in callback.history.records if "bfloat16" in (r["note"] or "")]
    assert noted == ["net.5"]


def test_the_model_is_free_when_the_user_lets_it_go(tmp_path):
    callback = IntrinsicDimensionCallback()
    model = Toy()
    runner = fitted(tmp_path, callback, model=model, val=loader(60))
    seen = weakref.ref(model.net[5])
    del callback.log, callback.log_dict  # Lightning puts the model's methods on every callback
    del model, runner
    gc.collect()
    assert seen() is None


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Sampling(pl.Callback):
    """Notes the resident memory after every hundred epochs."""

    def __init__(self):
        self.sizes = []

    def on_validation_end(self, trainer, pl_module):
        if trainer.current_epoch % 100 == 99:
            gc.collect()
            self.sizes.append(resident())


class Still(Toy):
    def training_step(self, batch, batch_idx):
        return None


def five_hundred_validations():
    """Return how many validations were measured, and the memory after each hundred."""
    warnings.simplefilter("ignore")
    callback, sampling = IntrinsicDimensionCallback(["net.5"], n_samples=50), Sampling()
    fitted(
        ".",
        callback,
        sampling,
        model=Still(),
        train=loader(16),
        val=loader(50, batch_size=50, seed=1),
        max_epochs=500,
    )
    return len(callback.history.validations()), sampling.sizes


@pytest.mark.timeout(300)
def test_five_hundred_validations_leak_nothing():
    measured, sizes = in_process(five_hundred_validations)
    assert measured == 500
    assert len(sizes) == 5
    assert sizes[-1] < 1.02 * sizes[0]
