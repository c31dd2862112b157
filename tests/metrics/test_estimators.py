"""Every metric passes the tester, and refuses arguments that its function refuses."""

from functools import partial

import pytest
import torch
from tester import CHECKS, filled, gaussian

from lightning_id.functional import (
    effective_rank,
    gride_dimension,
    mle_dimension,
    participation_ratio,
    pca_dimension,
    twonn_dimension,
)
from lightning_id.metrics import (
    DimensionMetric,
    GrideDimension,
    MLEDimension,
    ParticipationRatio,
    PCADimension,
    TwoNNDimension,
)

METRICS = {
    "twonn": (TwoNNDimension, twonn_dimension),
    "twonn mle": (
        partial(TwoNNDimension, method="mle", discard_fraction=0.2),
        partial(twonn_dimension, method="mle", discard_fraction=0.2),
    ),
    "pca": (PCADimension, pca_dimension),
    "pca standardized": (
        partial(PCADimension, explained_variance=0.5, standardize=True),
        partial(pca_dimension, explained_variance=0.5, standardize=True),
    ),
    "participation ratio": (ParticipationRatio, participation_ratio),
    "participation ratio standardized": (
        partial(ParticipationRatio, standardize=True),
        partial(participation_ratio, standardize=True),
    ),
    "gride": (partial(GrideDimension, n1=2, n2=4), partial(gride_dimension, n1=2, n2=4)),
    "mle": (MLEDimension, mle_dimension),
    "mle unbiased": (
        partial(MLEDimension, k=5, average="unbiased"),
        partial(mle_dimension, k=5, average="unbiased"),
    ),
    "any estimator": (partial(DimensionMetric, effective_rank), effective_rank),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("make", "function"), METRICS.values(), ids=METRICS)
def test_every_metric_passes_the_tester(make, function, check):
    check(make, function)


@pytest.mark.parametrize("make", [make for make, _ in METRICS.values()], ids=METRICS)
@pytest.mark.parametrize(
    "arguments",
    [{"max_samples": 2}, {"seed": -1}, {"seed": 2**64}],
    ids=str,
)
def test_reservoir_arguments_out_of_range_are_refused_by_name(make, arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`"):
        make(**arguments)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (TwoNNDimension, {"method": "fit"}),
        (TwoNNDimension, {"discard_fraction": 1.0}),
        (PCADimension, {"explained_variance": 0.0}),
        (PCADimension, {"explained_variance": 1.5}),
        (GrideDimension, {"n1": 2}),
        (GrideDimension, {"n2": 1}),
        (MLEDimension, {"k": 1}),
        (MLEDimension, {"average": "median"}),
        (TwoNNDimension, {"max_samples": 100.0}),
        (TwoNNDimension, {"seed": 0.5}),
        (TwoNNDimension, {"max_sample": 10}),
    ],
    ids=str,
)
def test_arguments_that_compute_would_refuse_are_refused_at_construction(make, arguments):
    # The types in the signature would refuse some of them first, but only in the tests.
    with pytest.raises((ValueError, TypeError), match=f"{next(iter(arguments))}"):
        make(**arguments)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(4), r"\(4,\)"),
        (torch.zeros(4, 3, 2), r"\(4, 3, 2\).*flatten"),
        (torch.zeros(4, 0), r"\(4, 0\)"),
        (torch.zeros(4, 3, dtype=torch.int64), "int64"),
        (torch.zeros(4, 3).to_sparse(), "dense"),
        (torch.zeros(4, 5), "expected 6 columns.*got 5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_of_another_form_is_refused_and_the_rows_before_stay(data, message):
    metric = filled(TwoNNDimension(), gaussian())
    with pytest.raises(ValueError, match=f"`data`.*{message}"):
        metric.update(data)
    assert torch.equal(metric.samples, gaussian())


def test_float8_rows_are_kept_as_float32():
    rows = gaussian().to(torch.float8_e4m3fn)
    metric = filled(TwoNNDimension(), rows)
    assert torch.equal(metric.samples, rows.float())


def test_batches_of_different_dtypes_are_kept_in_the_widest():
    metric = TwoNNDimension()
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        metric.update(gaussian().to(dtype))
    assert metric.samples.dtype == torch.float64
    assert torch.equal(metric.samples[:300], gaussian().to(torch.bfloat16).double())


@pytest.mark.parametrize("default_device", ["cpu", "meta"])
def test_update_reads_no_value_and_keeps_rows_where_the_metric_lies(default_device):
    """Rows without values (device meta) go in, so an accelerator is never waited for."""
    rows = gaussian().to("meta")
    with torch.device(default_device):
        metric = filled(TwoNNDimension(max_samples=100).to("meta"), rows)
    assert metric.samples.device.type == "meta"
    assert metric.samples.shape == (100, 6)
    keys_and_count = [v for v in metric.metric_state.values() if isinstance(v, torch.Tensor)]
    assert [v.device.type for v in keys_and_count] == ["cpu", "cpu"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("home", ["cpu", "cuda"])
def test_rows_of_an_accelerator_lie_where_the_metric_lies(home):
    metric = filled(TwoNNDimension(max_samples=100).to(home), gaussian().cuda())
    expected = filled(TwoNNDimension(max_samples=100), gaussian())
    assert metric.samples.device.type == home
    assert torch.equal(metric.samples.cpu(), expected.samples)
    assert metric.compute().device.type == home
    torch.testing.assert_close(metric.compute().cpu(), expected.compute())
