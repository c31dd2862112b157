"""How often the device is waited for: on tensors that state to be on CUDA, and have values.

Everything between two synchronisations is on the device: tensors of two devices do not mix.
"""

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import Geometry, get_estimator, pca_dimension, twonn_dimension
from lightning_id.functional.leading import Leading
from lightning_id.functional.registry import ESTIMATORS
from lightning_id.recording.results import hashes_of_few
from lightning_id.recording.storage import Storage
from tests.pretended_cuda import OnDevice, Waits


def asks_for_a_driver():
    """Tell whether this torch cannot index a tensor that states to be on CUDA, as 2.6 cannot."""
    try:
        with Waits():
            OnDevice(torch.zeros(4, 4))[:, :2]
    except RuntimeError:
        return True
    return False


pytestmark = pytest.mark.skipif(asks_for_a_driver(), reason="this torch asks for a driver")

BALL = manifolds.ball(300, 5, ambient=30)
WIDE = manifolds.ball(200, 5, ambient=5000)
CLOUDS = {
    "tall": BALL,
    "wide": WIDE,
    "half": WIDE.half(),
    "bfloat16": BALL.bfloat16(),
    "double": BALL.double(),
    "double, wide": WIDE.double(),
    "dead columns": BALL * (torch.arange(30) % 3 > 0),
}
UNUSUAL = {
    "duplicates": torch.cat((BALL, BALL[:50])),
    "clumps": 1e-4 * BALL + torch.eye(10, 30)[torch.arange(300) % 10],
    "tiny": BALL * 1e-25,
    "overflowing sums": 3e38 * (1 - 0.001 * BALL.abs()),
    "half with duplicates": torch.cat((BALL, BALL[:50])).half(),
    "constant": torch.ones(50, 8),
    "not finite": torch.full((50, 8), float("nan")),
}


def estimates(x, names):
    geometry = Geometry(x)
    return [get_estimator(name)(geometry) for name in names]


def on_device(x, names=("twonn", "pca")):
    with Waits() as waits:
        found = estimates(OnDevice(x), names)
    return found, waits


@pytest.mark.parametrize("cloud", CLOUDS)
def test_twonn_and_pca_of_a_layer_wait_four_times(cloud):
    found, waits = on_device(CLOUDS[cloud])
    assert waits.count <= 4, waits.by_name  # neighbours, diagonal, solver, eigenvalues
    assert on_device(CLOUDS[cloud], ["twonn"])[1].by_name == {"copy to the CPU": 1}
    assert found == estimates(CLOUDS[cloud], ("twonn", "pca"))


def test_rows_that_are_uncertain_among_three_candidates_are_not_waited_for_again():
    step = 0.02 * (1 - 2 * (torch.arange(30) % 2))
    x = torch.cat((BALL, *(BALL[:50] + move for move in (0.02, -0.020001, 1.0001 * step))))
    (found,), waits = on_device(x, ["twonn"])
    assert waits.by_name == {"copy to the CPU": 1}
    assert found.value == pytest.approx(twonn_dimension(x).value, rel=1e-6)


def test_a_certified_count_waits_four_times_with_a_start_and_without():
    x, leading = manifolds.ball(600, 5, ambient=700), Leading()
    for _ in range(2):
        with Waits() as waits:
            geometry = Geometry(OnDevice(x))
            geometry.leading = leading
            found = pca_dimension(geometry)
        assert found.computation == "certified"
        assert found.value == pca_dimension(x).value
        assert waits.by_name == {"copy to the CPU": 4}  # rows, diagonal, projection, moment


@pytest.mark.parametrize("names", [[name] for name in sorted(ESTIMATORS)], ids="".join)
@pytest.mark.parametrize("cloud", UNUSUAL)
def test_every_estimator_gives_what_it_gives_on_the_cpu(cloud, names):
    x = (CLOUDS | UNUSUAL)[cloud]
    (found,), (expected,) = on_device(x, names)[0], estimates(x, names)
    assert found.reason == expected.reason
    assert found.value == pytest.approx(expected.value, rel=1e-6, nan_ok=True)
    assert found.std_error == pytest.approx(expected.std_error, rel=1e-6, nan_ok=True)
    assert found.n_used == expected.n_used


@pytest.mark.parametrize("k", [2, 40])
@pytest.mark.parametrize("cloud", CLOUDS | {"clumps": UNUSUAL["clumps"]})
def test_neighbors_equal_the_cpu(cloud, k):
    x = (CLOUDS | UNUSUAL)[cloud]
    with Waits():
        found = Geometry(OnDevice(x)).neighbors(k)
    expected = Geometry(x).neighbors(k)
    torch.testing.assert_close(found.distances, expected.distances, rtol=1e-12, atol=0)
    assert (found.indices == expected.indices).float().mean() > 0.999


def test_neighbors_computed_ahead_are_of_one_order_only():
    geometry, expected = Geometry(BALL), Geometry(BALL)
    geometry.estimate_of_order(2)
    for k in (1, 2, 20, 2):
        assert torch.equal(geometry.neighbors(k).distances, expected.neighbors(20).distances[:, :k])


def test_standardised_columns_stay_on_the_device():
    with Waits():
        found = pca_dimension(OnDevice(CLOUDS["dead columns"]), standardize=True)
    assert found == pca_dimension(CLOUDS["dead columns"], standardize=True)


def test_rows_are_written_without_waiting_and_layers_hashed_with_one_wait():
    storage = Storage()
    with Waits() as waits:
        storage.write("a", OnDevice(BALL), torch.arange(300), 300)
        storage.write("b", OnDevice(BALL[:, :7]), torch.arange(300).flip(0), 300)
        assert waits.count == 0
        hashes_of_few([(name, storage.rows(name)) for name in "ab"])
        assert waits.by_name == {"copy to the CPU": 1}


WAYS_TO_WAIT = {
    "item": lambda x: x[0, 0].item(),
    "condition": lambda x: bool(x.any()),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "equal": lambda x: torch.equal(x, x),
    "unique": lambda x: x.unique(),
    "copy": lambda x: x.cpu(),
    "copy there": lambda x: torch.ones(3).to(x.device),
    "eigenvalues": lambda x: torch.linalg.eigvalsh(x[:30]),
}


@pytest.mark.parametrize("way", WAYS_TO_WAIT)
def test_all_ways_to_wait_are_counted(way):
    with Waits() as waits:
        WAYS_TO_WAIT[way](OnDevice(BALL))
    assert waits.count == 1


def test_a_mix_of_devices_is_noticed():
    with Waits(), pytest.raises(AssertionError, match="two devices"):
        OnDevice(BALL) + BALL
