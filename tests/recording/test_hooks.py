"""Modules that are copied and saved while hooks are on them: the copies hold nothing of ours."""

import copy
import io
import pickle
import pickletools

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_id import IntrinsicDimensionCallback, record_activations
from lightning_id.recording.hooks import Hooks
from tests.toys import Toy, count_hooks, fitted


@pytest.fixture
def hooked():
    """A module with a hook before and one after it, what they record, and the hooks."""
    net, calls, hooks = nn.Linear(3, 2), [], Hooks()
    hooks.before(net, lambda _module, args, _kwargs: calls.append(args[0].shape))
    hooks.after(net, lambda _module, _args, output: calls.append(output.shape))
    return net, calls, hooks


def test_a_hook_records_its_module_until_it_is_removed(hooked):
    net, calls, hooks = hooked
    net(torch.zeros(1, 3))
    assert calls == [(1, 3), (1, 2)]
    hooks.remove()
    net(torch.zeros(1, 3))
    hooks.remove()
    assert len(calls) == 2
    assert count_hooks(net) == 0


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_the_call_of_a_copy_records_nothing_and_gives_the_same(hooked, make):
    net, calls, _ = hooked
    x = torch.randn(4, 3)
    assert torch.equal(make(net)(x), net(x))
    assert calls == [(4, 3), (4, 2)]


def test_a_deep_copy_has_no_hook_left_once_they_are_removed(hooked):
    net, _, hooks = hooked
    copied = copy.deepcopy(nn.Sequential(net, nn.ReLU()))
    again = copy.deepcopy(copied)
    hooks.remove()
    assert count_hooks(copied) == 0
    assert torch.equal(again(torch.ones(1, 3)), copied(torch.ones(1, 3)))


def test_a_pickle_needs_nothing_but_torch_and_the_standard_library(hooked):
    net, file = hooked[0], io.BytesIO()
    torch.save(net, file)
    names = {
        str(arg).split()[0] for _, arg, _ in pickletools.genops(pickle.dumps(hooked[0])) if arg
    }
    assert not [name for name in names if "lightning_id" in name]
    file.seek(0)
    assert torch.load(file, weights_only=False)(torch.zeros(1, 3)).shape == (1, 2)


def test_hooks_themselves_are_copied_to_none(hooked):
    net, _, hooks = hooked
    copy.deepcopy(hooks).remove()
    assert count_hooks(net) == 2


class Keeper(Toy):
    """Keeps and saves its network in the validation step, and calls the copy with other data."""

    saved = None

    def validation_step(self, batch, batch_idx):
        kept = copy.deepcopy(self.net)
        kept(torch.zeros_like(batch[0]))
        super().validation_step(batch, batch_idx)
        self.__dict__["kept"] = kept
        self.saved = io.BytesIO()
        torch.save(self.net, self.saved)


@pytest.mark.filterwarnings("error:IntrinsicDimension")
def test_a_network_that_is_copied_and_saved_in_the_validation_step_is_measured_all_the_same(
    tmp_path,
):
    values = []
    for kind in (Toy, Keeper):
        pl.seed_everything(0, verbose=False)
        callback, model = IntrinsicDimensionCallback(n_samples=50), kind()
        fitted(tmp_path, callback, model=model)
        values.append([(r["layer"], r["estimator"], r["value"]) for r in callback.history.records])
    assert values[0] == values[1]
    assert count_hooks(model.kept) == 0
    model.saved.seek(0)
    x = torch.randn(5, 1, 8, 8)
    loaded = torch.load(model.saved, weights_only=False).eval()
    assert torch.equal(loaded(x), model.net.eval()(x))


def test_a_model_that_is_saved_while_its_activations_are_recorded(tmp_path):
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with record_activations(net, ["0"]) as rows:
        torch.save(net, tmp_path / "net.pt")
        net(torch.randn(10, 4))
        torch.load(tmp_path / "net.pt", weights_only=False)(torch.randn(10, 4))
    assert rows["0"].shape == (10, 3)
