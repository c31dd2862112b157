"""A plain loop of ``accelerate`` with `monitor`, on one rank and on two."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_id import monitor
from lightning_id.functional import twonn_dimension
from tests.processes import in_ranks
from tests.toys import count_hooks


def train(watched=True, is_frozen=False):
    """Train eight batches in four steps of the optimiser; return all state, and the history."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(160, 6, generator=generator)
    y = torch.randint(3, (160,), generator=generator)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.1), nn.ReLU(), nn.Linear(16, 3))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0 if is_frozen else 0.1, momentum=0.9)
        batch_size = 20 // accelerator.num_processes
        prepared = accelerator.prepare(
            net, optimizer, DataLoader(TensorDataset(x, y), batch_size, shuffle=True)
        )
        model, optimizer, batches = prepared
        logged = []
        watch = monitor(
            model,
            TensorDataset(x),
            every=2 if watched else None,
            layers=["2", "3"],
            log=lambda metrics, step: logged.append((step, metrics)),
        )
        with watch:
            for inputs, labels in batches:
                with accelerator.accumulate(model):
                    accelerator.backward(nn.functional.cross_entropy(model(inputs), labels))
                    optimizer.step()
                    optimizer.zero_grad()
                if watched and accelerator.sync_gradients:
                    watch.step()
        state = [x.clone() for x in net.state_dict().values()]
        state += [each["momentum_buffer"] for each in optimizer.state_dict()["state"].values()]
        state.append(torch.get_rng_state())
    records = [(r["step"], r["layer"], r["value"]) for r in watch.history.records]
    return state, records, logged, count_hooks(net)


def test_steps_of_the_optimiser_are_counted_and_the_training_is_bit_identical():
    plain, _, nothing, _ = train(watched=False)
    state, records, logged, n_hooks = train()
    assert all(torch.equal(one, other) for one, other in zip(plain, state, strict=True))
    assert n_hooks == 0
    assert nothing == []
    assert [step for step, _ in logged] == [0, 2, 4]
    assert list(dict.fromkeys(step for step, *_ in records)) == [0, 2, 4]


def of_frozen_network():
    return train(is_frozen=True)[1:3]


def test_two_ranks_measure_the_values_of_one_and_the_first_logs_them():
    alone, _ = of_frozen_network()
    (first, logged), (_, other) = in_ranks(of_frozen_network)
    assert [each[:2] for each in first] == [each[:2] for each in alone]
    assert [value for *_, value in first] == pytest.approx(
        [value for *_, value in alone], rel=1e-6, nan_ok=True
    )
    assert [step for step, _ in logged] == [0, 2, 4]
    assert other == []


def test_the_value_is_that_of_the_prepared_model():
    accelerator = Accelerator(cpu=True)
    x = torch.randn(100, 6, generator=torch.Generator().manual_seed(1))
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    model = accelerator.prepare(net)
    found = monitor(model, TensorDataset(x), layers=["1"]).measure()
    assert found["id_twonn/1"] == pytest.approx(twonn_dimension(net(x).detach()).value, rel=1e-6)
