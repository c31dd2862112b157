"""On fake CUDA tensors: no mixed devices, and no waiting outside the few named places.

A fake tensor has no values, so whatever needs one (``item``, ``nonzero``, a mask as an index)
raises. The named places, where the real code waits for the device, are replaced by what they could
return; everything between them has to run.
"""

import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_id.functional import Geometry
from lightning_id.functional.columns import Columns
from lightning_id.functional.neighbors import NeighborSearch


def asks_for_a_driver() -> bool:
    """Tell whether this torch cannot slice a fake CUDA tensor without a driver, as 2.6 cannot."""
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.empty(4, 4, device="cuda")[:, :2]
        except RuntimeError:
            return True
    return False


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning"),
    pytest.mark.skipif(asks_for_a_driver(), reason="this torch asks for a driver"),
]

N = 200
WAITING = ("_has_finite_means", "spread", "is_constant")  # of the columns
SHAPES = [(N, 30), (N, 5000)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


class Copies(TorchDispatchMode):
    """Count the copies from one device to another."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        devices = {
            tensor.device.type for tensor in (*args, result) if isinstance(tensor, torch.Tensor)
        }
        if "copy" in str(func) and len(devices) > 1:
            self.count += 1
        return result


def geometry_on_cuda(shape, dtype, monkeypatch, n_retried=0, n_distinct=None):
    x = torch.empty(shape, dtype=dtype, device="cuda")
    geometry = Geometry(x)
    distinct = torch.arange(n_distinct or shape[0], device="cuda")
    geometry._columns.__dict__.update(_has_finite_means=True, is_constant=False, spread=1.0)
    geometry._search.__dict__["distinct"] = distinct
    monkeypatch.setattr(
        NeighborSearch,
        "_uncertain_rows",
        lambda self, certain: torch.arange(n_retried, device=certain.device),
    )
    monkeypatch.setattr(Columns, "_left_float32", lambda self, moment: False)
    return geometry


def on_cuda(tensor):
    return tensor.device.type == "cuda"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_means_gram_matrix_and_ranking_stay_on_the_device(shape, dtype, monkeypatch):
    with FakeTensorMode(), Copies() as copies:
        geometry = geometry_on_cuda(shape, dtype, monkeypatch)
        columns = geometry._columns
        estimates, candidates = geometry._search._proposals
        assert all(map(on_cuda, (columns.means, columns.gram, estimates, candidates)))
        assert columns.gram.shape == (N, N)
    assert copies.count == 0


@pytest.mark.parametrize("n_distinct", [N, N - 20])
@pytest.mark.parametrize("n_retried", [0, 7])
@pytest.mark.parametrize("k", [2, 40])
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("shape", SHAPES)
def test_neighbors_are_copied_once_at_the_end(shape, dtype, k, n_retried, n_distinct, monkeypatch):
    with FakeTensorMode(), Copies() as copies:
        geometry = geometry_on_cuda(shape, dtype, monkeypatch, n_retried, n_distinct)
        found = geometry.neighbors(k)
        assert found.distances.shape == found.indices.shape == (n_distinct, k)
        assert found.distances.device.type == found.indices.device.type == "cpu"
    assert copies.count == 2  # distances and indices


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_resolution_of_some_rows_is_copied_once(shape, dtype, monkeypatch):
    with FakeTensorMode(), Copies() as copies:
        geometry = geometry_on_cuda(shape, dtype, monkeypatch)
        monkeypatch.setattr(NeighborSearch, "largest_norm", 1.0)
        found = geometry.neighbors(2)
        assert geometry.resolution_bound(1).shape == (N,)
        before = copies.count
        rows = torch.arange(5, device="cpu")
        distances, resolution = geometry.resolution(1, 2, rows)
        assert distances.shape == (5, 2)
        assert resolution.device.type == found.distances.device.type == "cpu"
    assert copies.count == before + 3  # row numbers and partners there, both results back


ALIVE = {"all": lambda moment: None, "some": lambda moment: torch.arange(20, device="cuda")}


@pytest.mark.parametrize("alive", ALIVE)
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("left_float32", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_second_moment_stays_on_the_device_and_the_spectrum_is_copied_once(
    shape, dtype, left_float32, standardize, alive, monkeypatch
):
    with FakeTensorMode(), Copies() as copies:
        geometry = geometry_on_cuda(shape, dtype, monkeypatch)
        monkeypatch.setattr(Columns, "_left_float32", lambda self, moment: left_float32)
        monkeypatch.setattr(Columns, "alive", lambda self, moment: ALIVE[alive](moment))
        assert on_cuda(geometry._columns.second_moment(standardize))
        assert copies.count == 0
        assert geometry.spectrum(standardize).device.type == "cpu"
    assert copies.count == 1


@pytest.mark.parametrize(
    "place",
    [
        *WAITING,
        "distinct",
        "_uncertain_rows",
        "largest_norm",
        "_left_float32",
        "alive",
        "moments",
    ],
)
def test_the_named_places_wait(place):
    with FakeTensorMode():
        x = torch.empty((N, 30), dtype=torch.float64, device="cuda")
        geometry = Geometry(x)
        columns, search = geometry._columns, geometry._search
        if place == "moments":
            columns.__dict__.update(_has_finite_means=True, is_constant=False, spread=1.0)
        go = {
            "distinct": lambda: search.distinct,
            "_uncertain_rows": lambda: search._uncertain_rows(x[:, 0] > 0),
            "largest_norm": lambda: search.largest_norm,
            "alive": lambda: columns.alive(x[:30]),
            "_left_float32": lambda: columns._left_float32(x[:30]),
            "moments": geometry.moments,
        }.get(place, lambda: getattr(columns, place))
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            go()


def test_a_mix_of_devices_is_noticed(monkeypatch):
    with FakeTensorMode():
        geometry = geometry_on_cuda((N, 30), torch.float32, monkeypatch)
        geometry._columns.__dict__["means"] = torch.empty(30)
        with pytest.raises(Exception, match="device"):
            geometry._columns.gram  # noqa: B018
