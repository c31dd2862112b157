"""The traps of torchmetrics, each a fact about these metrics."""

import math
import pickle
import warnings

import pytest
import torch
from tester import assert_same_estimate, assert_same_value, filled, gaussian
from torchmetrics import MetricCollection

from lightning_id.functional import pca_dimension, twonn_dimension
from lightning_id.metrics import PCADimension, TwoNNDimension


def chunks(metric) -> list[torch.Tensor]:
    return next(value for name, value in metric.metric_state.items() if name.startswith("rows"))


# --- M1: compute groups ---------------------------------------------------------------------------


def test_a_collection_keeps_different_configurations_apart_though_their_first_batch_is_the_same():
    metrics = MetricCollection(
        {
            "small": TwoNNDimension(max_samples=50),
            "large": TwoNNDimension(max_samples=200),
            "other": TwoNNDimension(max_samples=50, seed=1),
        }
    )
    for batch in gaussian().split(10):
        metrics.update(batch)
    assert len(metrics.compute_groups) == 3
    sizes = {name: len(metric.samples) for name, metric in metrics.items()}
    assert sizes == {"small": 50, "large": 200, "other": 50}
    assert len({float(value) for value in metrics.compute().values()}) == 3


def test_a_collection_shares_the_rows_of_equal_configurations():
    metrics = MetricCollection(TwoNNDimension(max_samples=50), PCADimension(max_samples=50))
    for batch in gaussian().split(10):
        metrics.update(batch)
    assert len(metrics.compute_groups) == 1
    twonn, pca = metrics.values(copy_state=False)
    assert [chunk.data_ptr() for chunk in chunks(twonn)] == [c.data_ptr() for c in chunks(pca)]
    sample = filled(TwoNNDimension(max_samples=50), gaussian()).samples
    assert_same_value(twonn, twonn_dimension(sample))
    assert_same_value(pca, pca_dimension(sample))


def test_a_collection_may_mix_update_and_forward_and_reset():
    metrics = MetricCollection(TwoNNDimension(max_samples=50), PCADimension(max_samples=50))
    for _ in range(2):
        metrics.reset()
        metrics.update(gaussian()[:100])
        metrics(gaussian()[100:200])
        metrics.update(gaussian()[200:])
        expected = filled(TwoNNDimension(max_samples=50), gaussian()).samples
        for metric in metrics.values():
            assert torch.equal(metric.samples, expected)


# --- M2: never an exception in compute ------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (torch.zeros(0, 5), "got 0"),
        (gaussian(2), "got 2"),
        (torch.ones(30, 5), "got 1"),
        (torch.full((30, 5), math.nan), "NaN or infinite"),
        (torch.full((30, 5), math.inf), "NaN or infinite"),
    ],
    ids=["no rows", "two rows", "equal rows", "NaN", "infinite"],
)
def test_without_an_estimate_compute_gives_nan_and_one_warning_with_the_reason(rows, reason):
    metric = TwoNNDimension()
    metric.update(rows)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = metric.compute()
        metric.compute()  # cached: no second warning
        metric.estimate()
    assert value.dtype == torch.float32
    assert value.isnan()
    assert [reason in str(w.message) for w in caught] == [True]
    assert "TwoNNDimension" in str(caught[0].message)
    assert reason in metric.estimate().reason


def test_compute_before_any_update_gives_nan():
    metric, early = TwoNNDimension(), "The ``compute`` method .* was called before"
    with (
        pytest.warns(UserWarning, match="TwoNNDimension is NaN"),
        pytest.warns(UserWarning, match=early),
    ):
        assert metric.compute().isnan()
    with pytest.warns(UserWarning, match=early):
        assert metric.estimate().reason is not None


# --- M5: inference mode ---------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_reset_and_update_in_inference_mode_break_nothing_later(outside):
    metric = TwoNNDimension(max_samples=100)
    with torch.inference_mode():
        metric.update(gaussian(200, seed=1))
        metric.reset()
        filled(metric, gaussian()[:150])
        metric.compute()
    with outside():
        filled(metric, gaussian()[150:])
        with pytest.warns(UserWarning, match="TwoNNDimension is NaN"):
            metric(gaussian()[:0])
        expected = filled(TwoNNDimension(max_samples=100), gaussian())
        assert torch.equal(metric.samples, expected.samples)
        assert_same_value(metric, expected.estimate())
        assert torch.equal(pickle.loads(pickle.dumps(metric)).samples, expected.samples)
        assert torch.equal(metric.clone().samples, expected.samples)
        metric.merge_state(filled(TwoNNDimension(), gaussian(50)))
        metric.reset()
        assert_same_value(filled(metric, gaussian()[:90]), twonn_dimension(gaussian()[:90]))


def test_rows_that_require_grad_are_kept_without_their_graph():
    rows = gaussian().requires_grad_()
    metric = TwoNNDimension()
    metric(rows * 2)
    assert not metric.samples.requires_grad
    assert not metric.compute().requires_grad


# --- M6: dtypes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cast",
    [
        lambda m: m.half(),
        lambda m: m.float(),
        lambda m: m.double(),
        lambda m: m.bfloat16(),
        lambda m: m.to(torch.bfloat16),
        lambda m: torch.nn.ModuleList([m]).to(torch.float16)[0],
    ],
)
def test_module_casts_leave_rows_keys_and_value_alone(cast):
    metric = filled(TwoNNDimension(max_samples=100), gaussian()[:150])
    metric.compute()
    metric = filled(cast(metric), gaussian()[150:])
    expected = filled(TwoNNDimension(max_samples=100), gaussian())
    assert torch.equal(metric.samples, expected.samples)
    assert metric.samples.dtype == torch.float32
    assert_same_value(metric, expected.estimate())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_set_dtype_casts_the_rows_held_and_later_ones_and_no_key(dtype):
    metric = filled(TwoNNDimension(max_samples=100), gaussian()[:150])
    metric.compute()
    assert metric.set_dtype(dtype) is metric
    assert_same_value(metric, twonn_dimension(metric.samples))
    filled(metric, gaussian()[150:])
    expected = filled(TwoNNDimension(max_samples=100), gaussian())
    assert metric.samples.dtype == dtype
    assert torch.equal(metric.samples, expected.samples.to(dtype))
    metric.reset()
    assert filled(metric, gaussian()).samples.dtype == dtype


def test_autocast_and_matmul_settings_change_nothing():
    expected = filled(TwoNNDimension(), gaussian()).compute()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert filled(TwoNNDimension(), gaussian()).compute() == expected


# --- M7: where states live ------------------------------------------------------------------------


def test_compute_on_cpu_is_accepted():
    metric = filled(TwoNNDimension(max_samples=100, compute_on_cpu=True), gaussian())
    expected = filled(TwoNNDimension(max_samples=100), gaussian())
    assert torch.equal(metric.samples, expected.samples)


def test_a_persistent_state_survives_a_state_dict():
    metric = filled(TwoNNDimension(max_samples=100), gaussian()[:150])
    metric.persistent(True)
    twin = TwoNNDimension(max_samples=100)
    twin.persistent(True)
    twin.load_state_dict(metric.state_dict())
    filled(twin, gaussian()[150:])
    expected = filled(TwoNNDimension(max_samples=100), gaussian())
    assert torch.equal(twin.samples, expected.samples)


# --- M8: forward ----------------------------------------------------------------------------------


def test_forward_estimates_the_batch_and_keeps_the_sample_of_update():
    metric = TwoNNDimension(max_samples=120)
    for batch in gaussian().split(100):
        torch.testing.assert_close(
            float(metric(batch)), twonn_dimension(batch).value, rtol=1e-6, atol=0
        )
    expected = filled(TwoNNDimension(max_samples=120), gaussian())
    assert torch.equal(metric.samples, expected.samples)
    assert_same_estimate(metric.estimate(), expected.estimate())
    assert metric.update_count == 3


# --- M9: memory of the batch ----------------------------------------------------------------------


@pytest.mark.parametrize("rows", [gaussian(), gaussian().bfloat16(), gaussian(6, 300).T])
@pytest.mark.parametrize("batch_size", [20, 50, 300])
def test_kept_rows_are_copies_that_let_the_batch_go(rows, batch_size):
    rows = rows.clone()
    metric = TwoNNDimension(max_samples=100)
    for batch in rows.split(batch_size):
        metric.update(batch)
        for chunk in chunks(metric):
            assert chunk.untyped_storage().nbytes() == chunk.nbytes
    before = metric.samples.clone()
    rows.zero_()
    assert torch.equal(metric.samples, before)


def test_rows_of_a_wide_view_are_kept_without_the_rest_of_it():
    metric = TwoNNDimension()
    metric.update(gaussian(10, d=1000)[:, :6])
    assert chunks(metric)[0].untyped_storage().nbytes() == 10 * 6 * 4


# --- M10: one loader, one metric ------------------------------------------------------------------


def test_metrics_of_equal_configuration_outside_a_collection_share_nothing():
    one, two = TwoNNDimension(), TwoNNDimension()
    one.update(gaussian())
    assert len(two.samples) == 0
    two.update(gaussian(100, d=3))  # another loader, another width
    assert len(one.samples) == 300
