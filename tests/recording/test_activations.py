"""Outputs of layers recorded in any PyTorch code, without a callback."""

import sys
import warnings
from contextlib import nullcontext

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from torch import nn

from lightning_id import record_activations
from lightning_id.recording.activations import eager
from tests.toys import count_hooks


def test_record_activations_leaves_no_hook_even_after_an_exception():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with record_activations(net, ["input", "0"], n_samples=25) as rows:
        for _ in range(3):
            net(torch.randn(10, 4))
    assert {name: x.shape for name, x in rows.items()} == {"input": (25, 4), "0": (25, 3)}
    assert count_hooks(net) == 0
    with pytest.raises(RuntimeError), record_activations(net):
        raise RuntimeError
    assert count_hooks(net) == 0


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, ids=None, mask=None):
        return self.out(self.table(ids).mean(1))


@pytest.mark.parametrize("keyword", [False, True])
def test_record_activations_takes_whole_numbers_and_keywords(keyword):
    net, ids = Embedded(), torch.arange(30).reshape(10, 3) % 9
    with record_activations(net, ["out"]) as rows:
        expected = net(ids=ids) if keyword else net(ids)
    torch.testing.assert_close(rows["out"], expected)
    with (
        pytest.raises(ValueError, match="input: expected"),
        record_activations(net, ["input", "out"]) as rows,
    ):
        net(ids)
    torch.testing.assert_close(rows["out"], expected)


@pytest.mark.filterwarnings("error")
def test_default_layers_of_token_ids_are_recorded_without_an_input():
    net, ids = Embedded(), torch.arange(30).reshape(10, 3) % 9
    with record_activations(net) as rows:
        expected = net(ids)
    torch.testing.assert_close(rows["out"], expected)
    assert "input" not in rows


def test_a_default_layer_that_cannot_be_recorded_is_warned_of_and_the_others_are_returned():
    class Transposed(nn.Linear):
        def forward(self, x):
            return super().forward(x).T

    net = nn.Sequential(nn.Linear(3, 4), Transposed(4, 2))
    with (
        pytest.warns(UserWarning, match=r"^not recorded: 1: expected 5 samples"),
        record_activations(net) as rows,
    ):
        net(torch.randn(5, 3))
    assert {name: x.shape for name, x in rows.items()} == {"input": (5, 3), "0": (5, 4)}


def test_record_activations_says_which_layer_could_not_be_recorded():
    class Tokens(nn.Module):
        def forward(self, x):
            return x.T

    net = nn.Sequential(Tokens())
    with pytest.raises(ValueError, match="0: expected 4 samples"), record_activations(net, "0"):
        net(torch.randn(4, 3))


def stack():
    pl.seed_everything(0, verbose=False)
    return nn.Sequential(
        nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)
    )


def compiled(module):
    return torch.compile(module, backend="eager")


def compiled_inside(module):
    module[1] = compiled(module[1])
    return module


def compiled_in_place(module):
    module.compile(backend="eager")
    return module


def compiled_in_fabric(module):
    return Fabric(accelerator="cpu", devices=1).setup(compiled(module))


def in_fabric(module):
    return Fabric(accelerator="cpu", devices=1).setup(module)


@pytest.mark.parametrize(
    "wrap", [compiled, compiled_inside, compiled_in_place, in_fabric, compiled_in_fabric]
)
def test_a_wrapped_module_that_ran_before_gives_the_rows_and_names_of_the_plain_one(wrap):
    x, wrapped = torch.randn(9, 3), wrap(stack())
    wrapped(x)
    with record_activations(wrapped) as rows:
        wrapped(x)
    plain = stack()
    with record_activations(plain) as expected:
        plain(x)
    assert list(rows) == list(expected) == ["input", "0", "1.0", "2"]
    for name in rows:
        torch.testing.assert_close(rows[name], expected[name])


def test_a_module_that_is_called_in_a_compiled_function_is_recorded():
    net, x = stack(), torch.randn(9, 3)
    function = torch.compile(lambda x: net(x) + 1, backend="eager")
    function(x)
    with record_activations(net, ["2"]) as rows:
        function(x)
    torch.testing.assert_close(rows["2"], net(x))


def scripted_inside():
    net = stack()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that scripts are deprecated
        net[1] = torch.jit.script(net[1])
    return net


def test_around_a_script_all_is_recorded_and_the_script_has_a_reason():
    net, x = scripted_inside(), torch.randn(9, 3)
    with (
        pytest.raises(ValueError, match=r"^1: a ScriptModule takes no hooks"),
        record_activations(net, ["0", "1", "2"]) as rows,
    ):
        net(x)
    torch.testing.assert_close(rows["0"], net[0](x))
    torch.testing.assert_close(rows["2"], net(x))
    with (
        pytest.raises(ValueError, match="`model`: expected a module that takes hooks"),
        record_activations(net[1]),
    ):
        pass


def test_rows_of_their_own_are_recorded_without_lightning_too():
    net, x = nn.Sequential(nn.Flatten(0, 1), nn.Linear(3, 2)), torch.randn(10, 4, 3)
    with record_activations(net, ["1"], rows_per_sample="all", n_samples=30) as rows:
        expected = net(x)
    assert rows["1"].shape == (30, 2)
    assert bool((rows["1"][:, None] == expected).all(2).any(1).all())
    with record_activations(net, ["1"], rows_per_sample=4) as rows:
        net(x)
    assert torch.equal(rows["1"], expected.view(10, 8))


def test_a_time_first_model_is_recorded_by_samples():
    net, x = nn.LSTM(6, 8), torch.randn(7, 30, 6)
    with record_activations(net, ["input"], reduce="last") as rows:
        net(x)
    assert torch.equal(rows["input"], x[-1])


def test_the_callbacks_own_layer_is_refused_with_the_way_out():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    message = "`layers`: expected modules or 'input', got 'last_hidden'"
    with pytest.raises(ValueError, match=message), record_activations(net, ["last_hidden"]):
        pass
    assert count_hooks(net) == 0


def test_no_sample_to_record_is_refused_before_a_hook_is_on():
    net = nn.Linear(4, 3)
    message = "`n_samples`: expected at least 1"
    with pytest.raises(ValueError, match=message), record_activations(net, "input", n_samples=0):
        pass
    assert count_hooks(net) == 0


def test_the_first_samples_are_recorded_over_several_calls():
    net, batches = nn.Sequential(nn.Linear(4, 3)), torch.randn(5, 10, 4)
    with record_activations(net, ["input", "0"], n_samples=23) as rows:
        for batch in batches:
            net(batch)
        assert rows == {}  # filled at the end
    first = batches.flatten(0, 1)[:23]
    assert torch.equal(rows["input"], first)
    torch.testing.assert_close(rows["0"], net(first))


def test_a_module_that_was_not_called_has_no_rows():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with record_activations(net, ["0", "1"]) as rows:
        net[0](torch.randn(5, 4))  # not by the model
    assert rows == {}


def test_rows_are_in_the_dictionary_where_another_layer_raises():
    net = nn.Sequential(nn.Linear(3, 4), nn.Flatten(0))
    with (
        pytest.raises(ValueError, match="1: expected 5 samples"),
        record_activations(net, ["0", "1"]) as rows,
    ):
        net(torch.randn(5, 3))
    assert {name: x.shape for name, x in rows.items()} == {"0": (5, 4)}


def test_an_input_that_is_no_tensor_is_a_reason_where_it_is_named():
    class OfLists(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, rows):
            return rows[0] @ self.fc.weight.T

    net = OfLists()
    reason = "^input: expected a tensor as an argument of the module that is called first, got list"
    with pytest.raises(ValueError, match=reason), record_activations(net, ["input"]):
        net([torch.randn(5, 6)])


def test_an_input_that_is_named_and_taken_out_again_is_not_searched_for():
    net = nn.Sequential(nn.Linear(4, 2))
    with record_activations(net, ["input", "0", "!input"]) as rows:
        net(torch.ones(3, 4))
    assert list(rows) == ["0"]


def test_an_axis_of_the_input_may_be_given():
    net, x = nn.Sequential(nn.Identity()), torch.randn(7, 5, 3)
    with record_activations(net, ["input", "0"], sample_dim=1) as rows:
        net(x)
    assert torch.equal(rows["input"], x.movedim(1, 0).flatten(1))
    assert torch.equal(rows["0"], rows["input"])


def test_where_nothing_is_compiled_the_compiler_is_not_touched(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    assert isinstance(eager(), nullcontext)
