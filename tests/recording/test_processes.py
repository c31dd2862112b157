"""Estimates of one process and of several: an error on one rank is known on all."""

import os

import torch
from torch import distributed

from lightning_id import manifolds
from lightning_id.functional import Estimate, Geometry, twonn_dimension
from lightning_id.functional.sharded import PeerError
from lightning_id.recording.processes import DistributedProcesses, Processes, SingleProcess
from tests.processes import in_ranks

X = manifolds.ball(60, 3, ambient=10)


def failing(geometry):
    raise ZeroDivisionError("injected")


def test_one_process_returns_the_estimate_or_the_error():
    one = SingleProcess()
    assert isinstance(one, Processes)
    geometry = one.geometry(X)
    assert one.all_gather(3) == [3]
    assert one.estimate(twonn_dimension, geometry) == twonn_dimension(Geometry(X))
    assert isinstance(one.estimate(failing, geometry), ZeroDivisionError)


def outcomes():
    """Return the value of one estimator and the errors of others, which fail on the last rank."""
    distributed.init_process_group("gloo")
    rank, ranks = int(os.environ["RANK"]), DistributedProcesses()
    assert isinstance(ranks, Processes)
    rows = X[:20] if rank == 0 else X[20:]

    def failing_late(geometry):
        estimate = twonn_dimension(geometry)
        return failing(geometry) if rank == 1 else estimate

    def failing_early(geometry):
        return failing(geometry) if rank == 1 else twonn_dimension(geometry)

    found = []
    for estimator in (twonn_dimension, failing_late, failing_early, twonn_dimension):
        outcome = ranks.estimate(estimator, ranks.geometry(rows))
        found.append(outcome.value if isinstance(outcome, Estimate) else type(outcome))
    found.append(ranks.all_gather(rank))
    distributed.destroy_process_group()
    return found


def test_an_error_of_one_rank_is_an_error_of_all_and_the_next_estimate_is_that_of_all_rows():
    first, second = in_ranks(outcomes)
    value = first[0]
    torch.testing.assert_close(value, twonn_dimension(X).value, rtol=1e-5, atol=0)
    assert first == [value, PeerError, PeerError, value, [0, 1]]
    assert second == [value, ZeroDivisionError, ZeroDivisionError, value, [0, 1]]
