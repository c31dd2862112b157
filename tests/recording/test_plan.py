"""Order, depth and inputs of the layers, planned from one forward pass."""

import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric

from lightning_id.recording.layers import called_modules
from lightning_id.recording.plan import Planner
from lightning_id.recording.recorder import Recorder
from lightning_id.recording.samples import first_samples
from lightning_id.recording.selection import Batch
from tests.toys import count_hooks

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
NAMES = {"input": "input", "2": "second", "0": "first", "last_hidden": "last_hidden"}


def net():
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def begun(model, batch, names=NAMES, is_input_named=True, finds_last_hidden=True):
    """Return a planner before its batch, and its recorder."""
    modules = called_modules(model, names)
    recorder = Recorder(modules, first_samples(len(batch)), root=model)
    rows = torch.arange(len(batch))
    recorder.begin(Batch(len(batch), rows, rows))
    planner = Planner(model, batch, names, recorder, is_input_named, finds_last_hidden)
    return planner, recorder


def planned(model, batch=X, **options):
    """Return the plan after a pass, and the recorder."""
    planner, recorder = begun(model, batch, **options)
    model(batch)
    plan = planner.finish()
    recorder.end()
    assert count_hooks(model) == 0
    return plan, recorder


def test_layers_are_in_the_order_of_execution_with_their_depths():
    plan, _ = planned(net())
    assert plan.order == ["input", "first", "second", "last_hidden"]
    assert plan.depths == pytest.approx(
        {"input": 0, "first": 1 / 3, "second": 2 / 3, "last_hidden": 2 / 3}
    )
    assert plan.given == {"input": "", "last_hidden": "4"}
    assert plan.reasons == {}
    assert plan.projected is None


def test_the_last_hidden_layer_comes_before_deeper_ones():
    plan, _ = planned(net(), names=NAMES | {"4": "output"})
    assert plan.order[-2:] == ["last_hidden", "output"]


def test_input_and_last_hidden_representation_are_recorded():
    model = net()
    _, recorder = planned(model)
    assert torch.equal(recorder.rows("input"), X)
    assert torch.equal(recorder.rows("last_hidden"), model[:4](X))
    assert torch.equal(recorder.rows("second"), model[:3](X))


def test_a_named_last_hidden_layer_is_not_searched_for():
    plan, recorder = planned(net(), names={"0": "first"}, finds_last_hidden=False)
    assert plan.order == ["first"]
    assert "last_hidden" not in plan.given
    assert recorder.rows("last_hidden") is None


def test_without_the_input_among_the_names_none_is_planned():
    plan, recorder = planned(net(), names={"0": "first", "last_hidden": "last_hidden"})
    assert plan.order == ["first", "last_hidden"]
    assert recorder.rows("input") is None


def test_an_alias_is_that_of_the_input():
    plan, recorder = planned(net(), names={"input": "pixels", "0": "first"})
    assert plan.order[0] == "pixels"
    assert plan.given["pixels"] == ""
    assert torch.equal(recorder.rows("pixels"), X)


class Conv(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3))


def test_a_network_that_ends_otherwise_has_a_reason_and_no_last_hidden_layer():
    names = {"1": "conv", "last_hidden": "last_hidden"}
    plan, _ = planned(Conv(), names=names)
    assert plan.reasons == {"last_hidden": "the network ends in Conv1d '1', not in a Linear"}
    assert plan.order == ["conv", "last_hidden"]  # asked for, so it has a record
    plan, _ = planned(Conv(), names={"1": "conv"})
    assert plan.order == ["conv"]


def test_the_model_itself_has_the_empty_name():
    plan, _ = planned(nn.Linear(6, 2), names={"input": "input"})
    assert plan.given == {"input": "", "last_hidden": ""}


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, ids):
        return self.head(self.table(ids).mean(1))


@pytest.mark.parametrize("is_input_named", [True, False])
def test_token_ids_are_an_input_only_where_it_is_named(is_input_named):
    ids = torch.arange(15).reshape(5, 3) % 9
    names = {"input": "input", "table": "table"}
    plan, recorder = planned(Embedded(), ids, names=names, is_input_named=is_input_named)
    assert ("input" in plan.order) == is_input_named
    assert ("input" in recorder.failures) == is_input_named
    assert plan.given["last_hidden"] == "head"


class OfLists(nn.Module):
    """A network that is given no tensor."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 2)

    def forward(self, rows):
        return self.fc(rows[0])


def test_an_input_that_is_not_found_has_a_reason():
    planner, recorder = begun(nn.Sequential(nn.Linear(6, 2)), X, names={"input": "input"})
    plan = planner.finish()  # no pass
    recorder.end()
    assert plan.reasons["input"] == "no module was called"
    assert plan.order == ["input"]
    assert "input" not in plan.given


def test_a_layer_that_is_never_called_comes_last_with_a_reason():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare, self.used = nn.Linear(6, 5), nn.Linear(6, 5)

        def forward(self, x):
            return self.used(x)

    plan, _ = planned(Spare(), names={"spare": "spare", "used": "used"})
    assert plan.order == ["last_hidden", "used", "spare"]
    assert "spare" not in plan.depths
    assert plan.reasons["spare"].startswith("the layer was never called in this forward pass")


def test_the_recorder_removes_the_hooks_of_the_planner():
    model = net()
    _, recorder = begun(model, X)
    assert count_hooks(model) > 0
    recorder.cancel()
    recorder.cancel()
    assert count_hooks(model) == 0


def test_a_metric_equals_every_module_and_is_none_of_them():
    class Measured(nn.Module):
        def __init__(self):
            super().__init__()
            self.metric = MeanMetric()
            self.net = net()

        def forward(self, x):
            return self.net(x)

    plan, _ = planned(Measured(), names={"last_hidden": "last_hidden"})
    assert plan.given["last_hidden"] == "net.4"


def test_a_wrapped_layer_has_the_name_of_its_wrapper():
    model = net()
    model[4] = nn.DataParallel(model[4])
    plan, _ = planned(model)
    assert plan.given["last_hidden"] == "4"
