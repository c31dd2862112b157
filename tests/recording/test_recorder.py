import warnings
from contextlib import nullcontext

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_id import IntrinsicDimensionCallback
from lightning_id.recording.projection import RandomProjection
from lightning_id.recording.recorder import Recorder
from lightning_id.recording.rule import RowRule, first_tensor
from lightning_id.recording.samples import first_samples
from lightning_id.recording.selection import Batch
from tests.toys import Toy, count_hooks, loader, validated


def record(module, batches, reduce="flatten"):
    """Return what a recorder keeps of a module over whole batches, and the recorder."""
    n = sum(len(batch) for batch in batches)
    recorder, start = Recorder({"layer": module}, first_samples(n), RowRule(reduce)), 0
    for batch in batches:
        rows = torch.arange(len(batch))
        recorder.begin(Batch(len(batch), rows, rows + start))
        module(batch)
        recorder.end()
        start += len(batch)
    return recorder.rows("layer"), recorder


def test_an_operation_in_place_after_the_layer_does_not_change_what_was_recorded():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True))
    x = torch.randn(10, 4)
    recorder = Recorder({"0": net[0]}, first_samples(10))
    recorder.begin(Batch(10, torch.arange(10), torch.arange(10)))
    net(x)
    recorder.end()
    assert torch.equal(recorder.rows("0"), net[0](x))
    assert (recorder.rows("0") < 0).any()


def test_only_the_chosen_rows_are_kept_each_in_its_slot():
    layer = nn.Identity()
    recorder = Recorder({"layer": layer}, first_samples(3))
    recorder.begin(Batch(4, torch.tensor([1, 3]), torch.tensor([2, 0])))
    layer(torch.arange(8.0).view(4, 2))
    recorder.end()
    recorder.begin(Batch(4, torch.tensor([0]), torch.tensor([1])))
    layer(torch.arange(8.0).view(4, 2) + 100)
    recorder.end()
    assert recorder.rows("layer").tolist() == [[6, 7], [100, 101], [2, 3]]


def test_a_batch_without_chosen_rows_puts_no_hook_on():
    net = nn.Linear(2, 2)
    recorder = Recorder({"layer": net}, first_samples(3))
    recorder.begin(Batch(4, torch.arange(0), torch.arange(0)))
    assert count_hooks(net) == 0


def test_the_recorder_does_not_keep_the_batch_alive():
    layer = nn.Identity()
    batch = torch.randn(100, 50)
    recorder = Recorder({"layer": layer}, first_samples(1))
    recorder.begin(Batch(100, torch.tensor([7]), torch.tensor([0])))
    layer(batch)
    recorder.end()
    assert recorder.rows("layer").untyped_storage().nbytes() == 50 * 4


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [
        ("flatten", lambda x: x.flatten(1)),
        ("mean", lambda x: x.mean(1)),
        ("max", lambda x: x.amax(1)),
        ("cls", lambda x: x[:, 0]),
        ("last", lambda x: x[:, -1]),
    ],
)
def test_tokens_become_one_row_as_asked(reduce, expected):
    x = torch.randn(5, 7, 3)
    rows, _ = record(nn.Identity(), [x], reduce)
    torch.testing.assert_close(rows, expected(x))


def test_a_map_is_reduced_over_its_places_to_its_channels():
    x = torch.randn(5, 7, 4, 4)
    assert torch.allclose(record(nn.Identity(), [x], "mean")[0], x.mean((2, 3)))
    assert torch.equal(record(nn.Identity(), [x], "max")[0], x.amax((2, 3)))


def test_outputs_of_one_axis_become_one_column():
    assert record(nn.Flatten(0), [torch.randn(5, 1)])[0].shape == (5, 1)


def test_tuples_and_mappings_give_their_first_floating_tensor():
    x, index = torch.randn(3, 2), torch.zeros(3, dtype=torch.long)
    assert first_tensor((index, x)) is x
    assert first_tensor({"logits": index, "last_hidden_state": x}) is x
    with pytest.raises(ValueError, match="floating"):
        first_tensor(index)
    with pytest.raises(ValueError, match="nested"):
        first_tensor(torch.nested.nested_tensor([torch.randn(2, 2), torch.randn(1, 2)]))
    with pytest.raises(ValueError, match="expected a tensor"):
        first_tensor("text")


class AddsToBatch(nn.Module):
    """Returns the batch with its output: the batch itself, or a copy of it."""

    def __init__(self, is_copied):
        super().__init__()
        self.fc, self.is_copied = nn.Linear(4, 3), is_copied

    def forward(self, batch):
        batch = dict(batch) if self.is_copied else batch
        batch["logits"] = self.fc(batch["x"])
        return batch


@pytest.mark.parametrize("keyword", [False, True])
@pytest.mark.parametrize("is_copied", [False, True])
def test_items_of_a_batch_that_a_module_returns_are_not_its_output(is_copied, keyword):
    x, module = torch.randn(5, 4), AddsToBatch(is_copied)
    recorder = Recorder({"layer": module}, first_samples(5))
    recorder.begin(Batch(5, torch.arange(5), torch.arange(5)))
    module(batch={"x": x}) if keyword else module({"x": x})
    recorder.end()
    assert torch.equal(recorder.rows("layer"), module.fc(x))


def test_a_module_that_returns_what_it_was_given_has_a_reason():
    layer = nn.Identity()
    recorder = Recorder({"layer": layer}, first_samples(5))
    recorder.begin(Batch(5, torch.arange(5), torch.arange(5)))
    layer({"x": torch.randn(5, 4)})
    recorder.end()
    assert recorder.rows("layer") is None
    assert recorder.failures["layer"].startswith("expected an output of its own, got the items")


def test_what_cannot_be_recorded_is_a_reason_and_not_an_exception():
    class Transposed(nn.Module):
        def forward(self, x):
            return x.T

    rows, recorder = record(Transposed(), [torch.randn(4, 3)])
    assert rows is None
    assert recorder.failures == {
        "layer": "expected 4 samples along axis 0, got 3 rows; axis 1 is as long: sample_dim takes"
        " it"
    }


def test_rows_of_changing_length_are_a_reason():
    rows, recorder = record(nn.Identity(), [torch.randn(4, 3), torch.randn(4, 5)])
    assert rows is None
    assert "expected 3 features" in recorder.failures["layer"]


def test_only_rows_above_the_width_are_projected_with_one_projection_for_each_width():
    x = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    recorder = Recorder({}, first_samples(6), RowRule(max_features=8, seed=3))
    for part in torch.arange(6).split(4):
        recorder.begin(Batch(len(part), torch.arange(len(part)), part))
        for width in (50, 40, 8):
            recorder.record(f"{width}", x[part, :width])
        recorder.end()
    for width in (50, 40):
        expected = RandomProjection(width, 8, 3)(x[:, :width])
        assert torch.equal(recorder.rows(f"{width}"), expected)
    assert torch.equal(recorder.rows("8"), x[:, :8])


def test_the_first_call_of_a_batch_is_recorded_and_calls_are_counted():
    layer = nn.Identity()
    recorder = Recorder({"layer": layer}, first_samples(2))
    recorder.begin(Batch(2, torch.arange(2), torch.arange(2)))
    layer(torch.zeros(2, 1)), layer(torch.ones(2, 1))
    recorder.end()
    assert recorder.rows("layer").sum() == 0
    assert recorder.calls == {"layer": 2}


def test_a_script_does_not_cancel_the_measurement_of_the_other_layers(tmp_path):
    class Scripted(Toy):
        def __init__(self, is_scripted):
            super().__init__()
            pl.seed_everything(0, verbose=False)
            self.net = nn.Sequential(
                nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 9)), nn.Linear(9, 3)
            )
            if is_scripted:
                self.net[1] = torch.jit.script(self.net[1])

        def forward(self, x):
            return self.net(x.mean(2).flatten(1))

        def validation_step(self, batch, batch_idx):
            self(batch[0])

    found = {}
    for is_scripted in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model = Scripted(is_scripted)
        callback = IntrinsicDimensionCallback(["input", "net.0", "net.1", "net.2"])
        warned = pytest.warns(UserWarning, match="'net.1': .* a ScriptModule takes no hooks")
        with warned if is_scripted else nullcontext():
            validated(tmp_path, callback, model=model, data=loader(60))
        twonn = [r for r in callback.history.records if r["estimator"] == "twonn"]
        found[is_scripted] = {r["layer"]: (r["value"], r["reason"]) for r in twonn}
        assert count_hooks(model) == 0
    assert "ScriptModule takes no hooks" in found[True].pop("net.1")[1]
    # What the last Linear is given is the output of the script.
    assert found[True].pop("last_hidden") == found[False].pop("net.1")
    assert found[True] == found[False]
    assert found[True]["net.2"][1] is None
