"""What holds for every metric: each check takes its maker and the function it wraps."""

import copy
import pickle
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_id.functional import Estimate
from lightning_id.metrics import DimensionMetric

Maker = Callable[..., DimensionMetric]
Function = Callable[[Tensor], Estimate]


def gaussian(n: int = 300, d: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def filled(metric: DimensionMetric, rows: Tensor, batch_size: int = 64) -> DimensionMetric:
    for batch in rows.split(batch_size):
        metric.update(batch)
    return metric


def assert_same_value(metric: DimensionMetric, expected: Estimate) -> None:
    value = metric.compute()
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert value.device == metric.device
    torch.testing.assert_close(float(value), float(expected), rtol=1e-6, atol=0)


def assert_same_estimate(one: Estimate, two: Estimate) -> None:
    assert str(one) == str(two)  # NaN equals nothing, but prints alike


def assert_equals_the_function(make: Maker, function: Function) -> None:
    rows = gaussian()
    metric = filled(make(), rows)
    assert_same_value(metric, function(rows))
    assert_same_estimate(metric.estimate(), function(rows))


def assert_any_split_gives_the_same_value(make: Maker, function: Function) -> None:
    rows = gaussian()
    for sizes in ([300], [1, 299], [0, 150, 0, 150], [100] * 3, [1] * 300):
        metric = make()
        for batch in rows.split(sizes):
            metric.update(batch)
        assert_same_value(metric, function(rows))


def assert_merged_by_hand_equals_the_whole(make: Maker, function: Function) -> None:
    rows = gaussian()
    one, two = filled(make(), rows[:100]), filled(make(), rows[100:])
    one.compute()  # a cached value must not survive the merge
    one.merge_state(two)
    assert_same_value(one, function(rows))


def assert_copies_go_on_apart(make: Maker, function: Function) -> None:
    rows = gaussian()
    for copied in (lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, lambda m: m.clone()):
        metric = filled(make(max_samples=150), rows[:200])
        metric.compute()
        twin = copied(metric)
        assert_same_value(twin, metric.estimate())
        assert_same_estimate(twin.estimate(), metric.estimate())
        filled(twin, rows[200:])
        assert metric.estimate().note == "a uniform sample of 150 of 200 rows"
        # The same keys as without the copy: nothing of the generator was lost.
        whole = filled(make(max_samples=150), rows)
        assert torch.equal(twin.samples, whole.samples)


def assert_reset_starts_anew(make: Maker, function: Function) -> None:
    metric = filled(make(max_samples=100), gaussian())
    before = metric.samples.clone()
    metric.reset()
    assert len(metric.samples) == 0
    filled(metric, gaussian(seed=1)[:, :3])  # another width is fine now
    metric.reset()
    assert torch.equal(filled(metric, gaussian()).samples, before)


def assert_keeps_no_state_in_checkpoints(make: Maker, function: Function) -> None:
    assert filled(make(), gaussian()).state_dict() == {}


def assert_takes_every_float_dtype(make: Maker, function: Function) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        rows = gaussian().to(dtype)
        metric = filled(make(), rows)
        assert metric.samples.dtype == dtype
        assert_same_value(metric, function(rows))
        assert metric.estimate().dtype == str(dtype).removeprefix("torch.")


def assert_plots(make: Maker, function: Function) -> None:
    metric = filled(make(), gaussian())
    _, axes = metric.plot()
    assert axes.lines[0].get_ydata() == [float(metric.compute())]
    _, axes = metric.plot([metric.compute(), metric.compute() + 1])
    assert len(axes.lines[0].get_ydata()) == 2


def assert_class_constants(make: Maker, function: Function) -> None:
    metric = make()
    assert metric.is_differentiable is False
    assert metric.higher_is_better is None
    assert metric.plot_lower_bound == 0.0
    hash(metric)
    assert make(sync_on_compute=False).sync_on_compute is False  # arguments of Metric go through


CHECKS = [
    assert_equals_the_function,
    assert_any_split_gives_the_same_value,
    assert_merged_by_hand_equals_the_whole,
    assert_copies_go_on_apart,
    assert_reset_starts_anew,
    assert_keeps_no_state_in_checkpoints,
    assert_takes_every_float_dtype,
    assert_plots,
    assert_class_constants,
]
