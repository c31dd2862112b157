"""Measurements in a loop without Lightning: the numbers of the callback, and an equal training."""

import pytest
import pytorch_lightning as pl
import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_id import AtSteps, History, IntrinsicDimensionCallback, monitor
from lightning_id.callback.monitoring import unwrapped
from lightning_id.functional import change, twonn_dimension
from tests.processes import in_ranks
from tests.toys import Toy, count_hooks, loader, toy_data, validated


def train(watched: bool, n_steps: int = 7, **options):
    """Train with dropout and a data loader that draws; return all state, and the monitor."""
    pl.seed_everything(3, verbose=False)
    net = Toy().net
    net[1].eval()  # a batch norm that the user froze
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    watch = monitor(net, toy_data(60, seed=1), every=3, **options) if watched else None
    steps = iter(range(n_steps))

    def loop():
        for _ in steps:
            x, y = next(iter(loader(shuffle=True)))
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            if watch is not None:
                watch.step()
            optimizer.zero_grad(set_to_none=False)

    if watch is None:
        loop()
    else:
        with watch:
            loop()
    momenta = [s["momentum_buffer"] for s in optimizer.state_dict()["state"].values()]
    grads = [p.grad for p in net.parameters()]
    state = [*net.state_dict().values(), *momenta, *grads, torch.get_rng_state()]
    return net, state, watch


def test_the_training_is_bit_identical_with_and_without():
    plain, expected, _ = train(watched=False)
    net, state, watch = train(watched=True)
    assert [v.step for v in watch.history.validations()] == [0, 3, 6, 7]
    assert all(torch.equal(one, other) for one, other in zip(expected, state, strict=True))
    assert [m.training for m in net.modules()] == [m.training for m in plain.modules()]
    assert count_hooks(net) == 0


def test_the_records_equal_the_records_of_the_callback_on_the_same_samples(tmp_path):
    pl.seed_everything(0, verbose=False)
    module = Toy()
    callback = IntrinsicDimensionCallback(n_samples=40, layers={"net.5": "fc", "net.8": "head"})
    validated(tmp_path, callback, model=module, data=loader(60))
    watch = monitor(module.net, loader(60), n_samples=40, layers={"5": "fc", "8": "head"})
    watch.measure()

    def numbers(history):
        columns = ("layer", "estimator", "value", "std_error", "from_input", "from_peak")
        return [tuple(r[column] for column in columns) for r in history.records]

    assert any(record[-1] for record in numbers(watch.history))
    assert numbers(watch.history) == numbers(callback.history)
    expected = {k: v for k, v in callback.last_metrics.items() if "change" not in k}
    assert watch.last_metrics == expected


def test_changes_since_the_start_have_the_paired_error_bar():
    pl.seed_everything(0, verbose=False)
    net, x = nn.Sequential(nn.Linear(6, 4), nn.Tanh()), torch.randn(200, 6)
    watch = monitor(net, TensorDataset(x), layers=["1"])
    watch.measure()
    before = net(x).detach()
    with torch.no_grad():
        net[0].weight[2:] *= 0.01
    watch.measure()
    expected = change(before, net(x).detach())
    twonn = [r for r in watch.history.records if r["estimator"] == "twonn" and r["layer"] == "1"]
    assert twonn[0]["value"] == pytest.approx(twonn_dimension(before).value, rel=1e-6)
    assert twonn[-1]["change"] == pytest.approx(expected.value, rel=1e-5)
    assert twonn[-1]["change_std_error"] == pytest.approx(expected.std_error, rel=1e-5)


def test_history_metrics_and_log(tmp_path):
    logged = []
    pl.seed_everything(0, verbose=False)
    watch = monitor(
        Toy().net,
        toy_data(60),
        every=AtSteps([2]),
        folder=tmp_path,
        prefix="run/",
        log=lambda metrics, step: logged.append((step, metrics)),
    )
    with watch:
        watch.step()
        watch.record(val_acc=0.5)
        watch.step(epoch=1)
    ((step, metrics),) = logged
    assert step == 2
    assert metrics == watch.last_metrics
    assert metrics["run/id/last_hidden"] > 0
    read = History.load(tmp_path / "run")
    assert str(read.records) == str(watch.history.records)  # NaN equals nothing
    assert [(m["step"], m["name"], m["value"]) for m in read.metrics] == [(1, "val_acc", 0.5)]
    assert read.records[0]["epoch"] == 1


def test_dictionaries_and_a_forward_of_ones_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x, scale=1.0):
            return {"out": self.layer(x) * scale}

    pl.seed_everything(0, verbose=False)
    net, x = Net(), torch.randn(100, 5)
    values = []
    for samples, forward in (
        (DataLoader([{"x": row} for row in x], 30), None),
        (DataLoader([{"y": row} for row in x], 30), lambda net, batch: net(batch["y"])),
    ):
        watch = monitor(net, samples, layers=["layer"], forward=forward)
        values.append(watch.measure()["id_twonn/layer"])
    assert values == pytest.approx([twonn_dimension(net.layer(x).detach()).value] * 2, rel=1e-6)


def test_a_failing_pass_is_a_warning_and_leaves_nothing_behind():
    net = Toy().net
    watch = monitor(net, TensorDataset(torch.randn(60, 3)), every=1)
    with pytest.warns(UserWarning, match="could not pass the samples"), watch:
        watch.step()
    assert watch.history.records == []
    assert count_hooks(net) == 0
    assert all(m.training for m in net.modules())
    with pytest.raises(RuntimeError):
        monitor(net, TensorDataset(torch.randn(60, 3)), on_error="raise").measure()


def test_wrong_arguments_raise_before_the_loop():
    with pytest.raises(ValueError, match="`every`: expected at least 1"):
        monitor(Toy().net, toy_data(), every=0)
    with pytest.raises(ValueError, match="fc99"):
        monitor(Toy().net, toy_data(), layers=["fc99"])


@pytest.mark.parametrize("option", ["sets", "dataloader_idx", "n_sample"])
def test_options_of_the_callback_alone_and_misspelt_ones_raise(option):
    with pytest.raises(TypeError, match=rf"^monitor\(\) has no option '{option}'\."):
        monitor(Toy(), TensorDataset(torch.randn(20, 1, 8, 8)), **{option: 1})


@pytest.mark.parametrize(("given", "near"), [("n_sample", "n_samples"), ("on_eror", "on_error")])
def test_a_misspelt_option_raises_with_the_nearest_ones(given, near):
    with pytest.raises(TypeError, match=rf"{given}'\. Close: '{near}'"):
        monitor(Toy(), TensorDataset(torch.randn(20, 1, 8, 8)), **{given: 1})


def test_a_compiled_model_is_measured_as_the_module_inside():
    pl.seed_everything(0, verbose=False)
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    x = torch.randn(100, 6)
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    assert unwrapped(compiled) is net
    watch = monitor(compiled, TensorDataset(x), layers=["1"])
    expected = twonn_dimension(net(x).detach()).value
    assert watch.measure()["id_twonn/1"] == pytest.approx(expected, rel=1e-6)


def _on_rank(out: str) -> None:
    distributed.init_process_group("gloo")
    pl.seed_everything(0, verbose=False)
    net = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(6, 6), nn.Tanh()))
    x = torch.randn(101, 6, generator=torch.Generator().manual_seed(1))
    with monitor(net, TensorDataset(x), every=1, layers=["1"], folder=out) as watch:
        watch.step()
    distributed.destroy_process_group()


def test_two_ranks_measure_half_of_the_samples_each(tmp_path):
    in_ranks(_on_rank, str(tmp_path))
    history = History.load(tmp_path)
    pl.seed_everything(0, verbose=False)
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    x = torch.randn(101, 6, generator=torch.Generator().manual_seed(1))
    watch = monitor(net, TensorDataset(x), layers=["1"])
    expected = watch.measure()["id_twonn/1"]
    twonn = [r for r in history.records if r["estimator"] == "twonn" and r["layer"] == "1"]
    assert [r["n_samples"] for r in twonn] == [101, 101]
    assert twonn[0]["value"] == pytest.approx(expected, rel=1e-6)
