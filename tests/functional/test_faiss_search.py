import resource

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import Geometry, gride_dimension, scale_profile, twonn_dimension
from lightning_id.functional import geometry as geometry_module
from lightning_id.functional.columns import Columns
from tests.processes import in_process

pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
from lightning_id.functional.faiss_search import faiss_geometry


@pytest.mark.parametrize("offset", [0, 100, 10_000])
def test_distances_and_neighbours_equal_the_default(offset):
    x = manifolds.ball(1500, 5, ambient=40) + offset
    ours, default = faiss_geometry(x).neighbors(20), Geometry(x).neighbors(20)
    torch.testing.assert_close(ours.distances, default.distances, rtol=1e-6, atol=0)
    assert (ours.indices == default.indices).float().mean() > 0.999  # near ties may swap


def test_collapsed_classes_are_exact_too():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 30, generator=generator).repeat_interleave(60, 0)
    x = centres + 1e-4 * manifolds.ball(600, 5, ambient=30)
    expected = twonn_dimension(x.double()).value
    assert twonn_dimension(faiss_geometry(x)).value == pytest.approx(expected, rel=1e-4)


def test_repeated_rows_are_one_point_and_counted_even_beyond_the_neighbours_searched():
    distinct = manifolds.ball(400, 3, ambient=10)
    x = torch.cat((distinct, distinct[:100], distinct[:1].repeat(50, 1)))
    estimate = twonn_dimension(faiss_geometry(x))
    assert estimate.n_duplicates == 150
    assert estimate.value == pytest.approx(twonn_dimension(distinct).value, rel=1e-6)


def test_the_estimate_names_the_backend():
    x = manifolds.ball(200, 3)
    assert twonn_dimension(faiss_geometry(x)).backend == "faiss"
    assert twonn_dimension(x).backend == "gram"
    assert gride_dimension(faiss_geometry(x), 2, 4).value == pytest.approx(
        gride_dimension(x, 2, 4).value, rel=1e-6
    )


def test_the_scales_of_many_rows_need_no_matrix(monkeypatch):
    x = manifolds.ball(400, 3, ambient=10)
    expected = [part.mean for part in scale_profile(x, blocks=(1, 4)).decimation]
    monkeypatch.setattr(Columns, "gram_matrix", None)
    found = scale_profile(faiss_geometry(x), blocks=(1, 4)).decimation
    assert [part.mean for part in found] == pytest.approx(expected, rel=1e-6)


def test_too_many_rows_for_a_matrix_are_refused_and_the_way_on_is_named(monkeypatch):
    assert geometry_module.LARGEST_GRAM == 50_000
    monkeypatch.setattr(geometry_module, "LARGEST_GRAM", 100)
    with pytest.raises(ValueError, match=r"at most 100 rows, got 200.*faiss_geometry"):
        Geometry(torch.zeros(200, 3))


def estimate_and_memory():
    twonn_dimension(faiss_geometry(manifolds.ball(500, 3, ambient=16)))
    x = manifolds.ball(30_000, 3, ambient=16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    value = twonn_dimension(faiss_geometry(x)).value
    return value, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


@pytest.mark.timeout(300)
def test_the_memory_grows_with_the_rows_and_not_with_their_square():
    value, extra = in_process(estimate_and_memory)
    assert value == pytest.approx(3, abs=0.15)
    assert extra < 300  # MB; the matrix would take 3600


@pytest.mark.gpu
def test_rows_on_a_gpu_give_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = manifolds.ball(500, 3)
    assert twonn_dimension(faiss_geometry(x.cuda())).value == pytest.approx(
        twonn_dimension(x).value, rel=1e-6
    )
