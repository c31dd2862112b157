"""A measurement by itself: batches through a network, and the estimates of every layer."""

import pytest
import torch
from torch import nn

from lightning_id.functional import pca_dimension, twonn_dimension
from lightning_id.recording.measurement import Measurement, Options
from lightning_id.recording.rule import RowRule
from lightning_id.recording.samples import FixedSamples, choose_samples, uniform_draws

N, CHOSEN = 90, 50
NAMES = {"input": "input", "0": "first", "2": "second", "last_hidden": "last_hidden"}
ESTIMATORS = {"twonn": twonn_dimension, "pca": pca_dimension}


@pytest.fixture
def net():
    torch.random.default_generator.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 2))
    return net.requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(N, 6, generator=torch.Generator().manual_seed(1))


def samples():
    return FixedSamples(choose_samples(N, CHOSEN, seed=0), uniform_draws(CHOSEN, 0))


def run(net, batches, names=NAMES, **options):
    """Pass batches through a network that is measured."""
    measurement = Measurement(net, names, samples(), **options)
    for batch in batches:
        measurement.begin_batch(batch)
        net(batch[0] if isinstance(batch, list) else batch)
        measurement.end_batch()
    return measurement


def by_layer(measurement, estimators=ESTIMATORS):
    return {result.layer: result for result in measurement.results(estimators)}


def test_every_estimate_is_that_of_the_chosen_rows_in_the_order_of_execution(net, x):
    results = by_layer(run(net, x.split(16)))
    chosen = x[choose_samples(N, CHOSEN, seed=0)]
    rows = {"input": chosen, "first": net[:1](chosen), "second": net[:3](chosen)}
    rows["last_hidden"] = net[:4](chosen)
    assert list(results) == list(rows)
    for (layer, expected), order in zip(rows.items(), range(4), strict=True):
        result = results[layer]
        assert result.order == order
        assert result.ambient_dimension == expected.shape[1]
        for name, estimator in ESTIMATORS.items():
            found, alone = result.estimates[name], estimator(expected)
            assert found.value == pytest.approx(alone.value, rel=1e-6)
            assert found.n_samples == CHOSEN


def test_roles_and_depths_are_of_the_network(net, x):
    results = by_layer(run(net, x.split(16)))
    assert {name: result.role for name, result in results.items() if result.role} == {
        "input": "input",
        "last_hidden": "last_hidden",
    }
    depths = [result.depth for result in results.values()]
    assert depths == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])


def test_the_last_hidden_layer_is_the_layer_of_the_same_rows_where_that_is_measured(net, x):
    results = by_layer(run(net, x.split(16), {"3": "relu", "last_hidden": "last_hidden"}))
    assert {name: result.role for name, result in results.items()} == {"relu": "last_hidden"}


def test_a_plan_of_before_gives_the_same_results_without_another_trace(net, x):
    first = run(net, x.split(16))
    again = run(net, x.split(16), plan=first.plan)
    assert again.plan == first.plan
    for one, other in zip(first.results(ESTIMATORS), again.results(ESTIMATORS), strict=True):
        assert str(one.estimates) == str(other.estimates)


def test_hooks_are_on_the_network_within_a_batch_alone(net, x):
    measurement = Measurement(net, NAMES, samples())

    def hooks():
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())

    assert hooks() == 0
    measurement.begin_batch(x[:16])
    assert hooks() > 0
    net(x[:16])
    measurement.end_batch()
    assert hooks() == 0
    measurement.begin_batch(x[16:32])
    measurement.cancel()
    measurement.cancel()  # idempotent
    assert hooks() == 0


def test_classes_of_enough_samples_are_estimated_from_their_own_rows(net, x):
    labels = torch.arange(N) % 3
    labels[labels == 2] = torch.arange(int((labels == 2).sum())) + 10  # of one sample each
    batches = [[x[i : i + 16], labels[i : i + 16]] for i in range(0, N, 16)]
    result = by_layer(run(net, batches, options=Options(smallest_class=10)))["first"]
    chosen = choose_samples(N, CHOSEN, seed=0)
    assert set(result.per_class) == {0, 1}
    for label, estimates in result.per_class.items():
        rows = net[:1](x[chosen])[labels[chosen] == label]
        assert estimates["twonn"].value == pytest.approx(twonn_dimension(rows).value, rel=1e-6)
    labelled = [fields for fields in result.records() if "label" in fields]
    assert [fields["label"] for fields in labelled] == ["0", "0", "1", "1"]


def test_a_layer_that_is_never_called_has_a_reason_and_the_others_their_numbers(x):
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(6, 5), nn.Linear(6, 5)

        def forward(self, x):
            return self.used(x)

    net = Spare().requires_grad_(False)
    results = by_layer(run(net, x.split(16), {"used": "used", "spare": "spare"}))
    assert "never called" in results["spare"].estimates["twonn"].reason
    assert results["spare"].depth is None
    assert results["used"].estimates["twonn"].reason is None


def test_without_a_batch_every_layer_has_no_record(net):
    assert by_layer(Measurement(net, NAMES, samples())) == {}


def test_an_estimator_that_raises_is_a_reason_and_the_next_is_tried(net, x):
    def broken(geometry):
        raise ZeroDivisionError("mine")

    estimators = {"broken": broken, "twonn": twonn_dimension}
    for result in run(net, x.split(16)).results(estimators):
        assert result.estimates["broken"].reason == "ZeroDivisionError('mine')"
        assert isinstance(result.errors["broken"], ZeroDivisionError)
        assert result.estimates["twonn"].reason is None


def test_outputs_are_reduced_by_the_rule(x):
    net = nn.Sequential(nn.Unflatten(1, (3, 2)), nn.Linear(2, 4)).requires_grad_(False)
    options = Options(RowRule("mean"))
    found = by_layer(run(net, x.split(16), {"1": "tokens"}, options=options))["tokens"]
    rows = net(x[choose_samples(N, CHOSEN, seed=0)]).mean(1)
    assert found.ambient_dimension == 4
    assert found.estimates["twonn"].value == pytest.approx(twonn_dimension(rows).value, rel=1e-6)


def test_seconds_grow_with_recording_and_estimating(net, x):
    measurement = run(net, x.split(16))
    recorded = measurement.seconds
    assert recorded > 0
    by_layer(measurement)
    assert measurement.seconds > recorded
