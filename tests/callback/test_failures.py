"""The failure policy by itself: warn once, raise, or ignore."""

import warnings

import pytest

from lightning_id.callback.failures import FailurePolicy
from lightning_id.functional import Estimate
from lightning_id.recording.results import LayerResult


def failing(layer, reason, error=None):
    errors = {} if error is None else {"twonn": error}
    estimates = {"twonn": Estimate(reason=reason)}
    return LayerResult(layer, None, 0, 0.5, 3, estimates=estimates, errors=errors)


def caught(action):
    """Return the messages of the warnings of an action."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        action()
    return [str(warning.message) for warning in found]


def raise_in(policy, error, cleaned):
    with policy.guard("write the history", lambda: cleaned.append(1)):
        raise error


def test_a_message_is_emitted_once_and_a_key_stands_for_its_numbers():
    policy, emitted = FailurePolicy("warn", "Callback"), []
    for text, key in [("a", None), ("a", None), ("3 of 5 s", "budget"), ("4 of 5 s", "budget")]:
        policy.report_once(text, key, emitted.append)
    assert emitted == ["Callback: a", "Callback: 3 of 5 s"]


def test_a_failure_cleans_up_and_is_one_warning_whatever_its_numbers():
    policy, cleaned = FailurePolicy("warn", "Callback"), []
    texts = caught(lambda: [raise_in(policy, OSError(f"{n} bytes"), cleaned) for n in (1, 2)])
    assert cleaned == [1, 1]
    assert texts == [
        "Callback could not write the history; the training goes on without this measurement:"
        " OSError('1 bytes')"
    ]


def test_raise_cleans_up_and_raises():
    cleaned = []
    with pytest.raises(OSError, match="full"):
        raise_in(FailurePolicy("raise", "Callback"), OSError("full"), cleaned)
    assert cleaned == [1]


def test_ignore_is_silent():
    policy, cleaned = FailurePolicy("ignore", "Callback"), []

    def everything():
        raise_in(policy, OSError("full"), cleaned)
        policy.report_once("a")
        policy.report_layers([failing("fc1", "too few rows")])

    assert caught(everything) == []
    assert cleaned == [1]


def test_an_interrupt_is_no_failure():
    cleaned = []
    with pytest.raises(KeyboardInterrupt):
        raise_in(FailurePolicy("warn", "Callback"), KeyboardInterrupt(), cleaned)
    assert cleaned == []


def test_a_cause_is_reported_once_for_its_layers_and_once_for_all_measurements():
    policy = FailurePolicy("warn", "Callback")
    first = [failing("fc1", "got 3 rows"), failing("fc2", "got 3 rows"), failing("fc3", "no batch")]
    texts = caught(lambda: policy.report_layers(first))
    assert texts == [
        "Callback: layers 'fc1', 'fc2': no twonn dimension: got 3 rows",
        "Callback: layer 'fc3': no twonn dimension: no batch",
    ]
    later = [failing("fc1", "got 4 rows"), failing("fc2", "got 4 rows"), failing("fc3", "no batch")]
    assert caught(lambda: policy.report_layers(later)) == []


def test_what_no_policy_is_is_refused():
    with pytest.raises(ValueError, match="`on_error`: expected 'warn', 'raise' or 'ignore'"):
        FailurePolicy("stop", "Callback")
