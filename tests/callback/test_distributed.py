"""Two real processes (gloo): the same numbers everywhere, and with one process."""

import math
import re
import time

import pytest
import torch

from lightning_id.recording.samples import choose_samples
from tests.callback.fits_of_ranks import fits
from tests.processes import in_process, in_ranks

# A process takes seconds to start: the same ones make all fits, one after the other.
MODES = ["val", "probe", "steps"]
SHARDED = ["fsdp", "fsdp steps"]
CAN_SHARD = hasattr(torch.cpu.Stream, "record_event")  # torch 2.6 cannot, on a CPU
ON_ONE_RANK = {"n_val": 40, "n_samples": 3, "seed": 9}  # the samples 2, 24 and 30
FAULTS = ["prepare", "1", "2", "3", "4", "7", "30"]


def run(devices, *tasks):
    """Return what every rank found, for each fit."""
    function = in_process if devices == 1 else in_ranks
    found = function(fits, devices, list(tasks))
    return [[each] for each in found] if devices == 1 else list(zip(*found, strict=True))


def numbers(result, by_step=False):
    return {
        (r["layer"], r["estimator"], r["stage"], r["step"] if by_step else None, r["label"]): r[
            "value"
        ]
        for r in result["records"]
    }


@pytest.fixture(scope="module")
def alone():
    """What one process finds, by mode."""
    modes = [*MODES, *SHARDED] if CAN_SHARD else MODES
    tasks = {mode: {"mode": mode} for mode in modes} | {"one rank": ON_ONE_RANK}
    found = run(1, *tasks.values())
    return {name: ranks[0] for name, ranks in zip(tasks, found, strict=True)}


@pytest.fixture(scope="module")
def pairs():
    """The results of two processes, by mode; with a fault by its name."""
    tasks = {mode: {"mode": mode} for mode in MODES}
    tasks |= {fault: {"fault": fault} for fault in FAULTS}
    tasks["one rank"] = ON_ONE_RANK
    found = run(2, *tasks.values())
    modes = SHARDED if CAN_SHARD else []
    sharded = run(2, *({"mode": mode} for mode in modes))
    return dict(zip([*tasks, *modes], [*found, *sharded], strict=True))


@pytest.fixture(scope="module")
def together(pairs):
    return pairs["val"]


def test_all_ranks_log_the_same_numbers(together):
    ranks = together
    assert ranks[0]["logged"] == ranks[1]["logged"]
    assert len(ranks[0]["logged"]) > 30
    assert str(numbers(ranks[0])) == str(numbers(ranks[1]))


def test_two_ranks_equal_one_process_on_the_same_samples(alone, together):
    expected, found = numbers(alone["val"]), numbers(together[0])
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-5, nan_ok=True), key


@pytest.mark.parametrize("mode", [*MODES[1:], *SHARDED])
def test_so_do_a_probe_between_steps_and_sharded_parameters(mode, alone, pairs):
    if mode in SHARDED and not CAN_SHARD:
        pytest.skip("FSDP2 on a CPU asks for torch 2.7")
    by_step = "steps" in mode  # two processes end an epoch after half as many steps as one
    expected, found, other = (numbers(r, by_step) for r in (alone[mode], *pairs[mode]))
    assert str(found) == str(other)
    assert {key[4] for key in found} == {None, "0", "1"}
    assert len(found) > 30
    for key in found:
        assert found[key] == pytest.approx(expected[key], rel=1e-5, nan_ok=True), key


def test_a_process_that_dies_does_not_leave_the_other_waiting():
    began = time.monotonic()
    with pytest.raises(AssertionError, match="process 1: ended with exit code 1"):
        run(2, {"fault": "die"})
    assert time.monotonic() - began < 60


def test_what_the_sampler_repeats_to_fill_the_last_batch_is_not_measured(together):
    # 61 samples on two ranks: one of them is met twice.
    ranks = together
    assert {r["n_samples"] for r in ranks[0]["records"] if r["label"] is None} == {61}
    assert {r["n_duplicates"] for r in ranks[0]["records"] if r["layer"] == "input"} == {0}


def test_no_rank_holds_all_of_a_wide_layer_to_estimate_it(together):
    widest = 61 * 144  # net.0: 4 x 6 x 6 features
    assert all(rank["widest"] <= widest / 2 for rank in together)


def test_lightning_does_not_advise_to_average_what_is_the_same_everywhere(together):
    said = "\n".join(together[0]["said"])
    advice = re.findall(r"self\.log\('(\S+)', ..., sync_dist=True\)", said)
    assert set(advice) == {"val_acc"}  # the user's own, which does differ


def test_a_rank_without_a_chosen_sample_takes_part(alone, pairs):
    chosen = choose_samples(40, ON_ONE_RANK["n_samples"], ON_ONE_RANK["seed"])
    assert (chosen % 2 == 0).all()
    expected, found, other = map(numbers, (alone["one rank"], *pairs["one rank"]))
    assert str(found) == str(other)
    assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert {r["n_samples"] for r in pairs["one rank"][1]["records"]} == {3}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_of_one_rank_is_seen_by_all_and_nobody_waits(fault, alone, pairs):
    ranks = pairs[fault]
    assert ranks[0]["weights"] == ranks[1]["weights"] == alone["val"]["weights"]
    assert "injected" in "".join(ranks[1]["said"])  # the others refer to it
    if fault == "prepare":
        assert [len(rank["records"]) for rank in ranks] == [0, 0]
        return
    failed = [
        [(r["layer"], r["estimator"]) for r in rank["records"] if "injected" in str(r["reason"])]
        for rank in ranks
    ]
    heard = [
        [(r["layer"], r["estimator"]) for r in rank["records"] if "PeerError" in str(r["reason"])]
        for rank in ranks
    ]
    assert failed[0] == heard[1] == []
    assert failed[1] == heard[0] != []
    sound = [r for r in ranks[0]["records"] if r["layer"] == "net.8" and r["reason"] is None]
    assert sound
    assert not any(math.isnan(r["value"]) for r in sound)
