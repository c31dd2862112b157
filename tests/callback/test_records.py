"""Results of layers, compared and added to a history: results written by hand, and no fit."""

import pytest
import torch

from lightning_id import History, manifolds
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.running import Comparisons, add_results
from lightning_id.functional import Estimate, change, twonn_dimension
from lightning_id.history import Validation
from lightning_id.recording.results import LayerResult

CLOUDS = [manifolds.ball(60, d, ambient=12, seed=d) for d in (3, 8)]
FIRST, SECOND = Validation("fit", 0, 9), Validation("fit", 1, 19)


def layer(name, cloud, **fields):
    return LayerResult(name, None, 0, 0.5, 12, {"twonn": twonn_dimension(cloud)}, **fields)


def add(results, history, at=FIRST, comparisons=None, on_error="warn", done=None):
    done = [] if done is None else done
    failures = FailurePolicy(on_error, "Callback")
    add_results(results, done, history, at, "val", "mean", comparisons, failures)
    return history.records[-len(done) :]


def test_a_record_has_the_place_of_the_measurement_and_the_estimate_of_the_layer():
    history, result = History(), layer("fc1", CLOUDS[0])
    (record,) = add([result], history)
    estimate = result.estimates["twonn"]
    expected = {"stage": "fit", "epoch": 0, "step": 9, "data": "val", "reduce": "mean"}
    expected |= {"layer": "fc1", "estimator": "twonn", "value": estimate.value}
    assert {name: record[name] for name in expected} == expected
    assert record["change"] is None


def test_a_layer_is_added_before_the_next_one_is_estimated():
    history, done, seen = History(), [], []

    def results():
        for name in ("a", "b"):
            seen.append((len(history.records), len(done)))
            yield layer(name, CLOUDS[0])

    add(results(), history, done=done)
    assert seen == [(0, 0), (1, 1)]
    assert [result.layer for result in done] == ["a", "b"]


def test_later_measurements_have_their_change_since_earlier_ones():
    history, comparisons = History(), Comparisons()
    add([layer("fc1", CLOUDS[0])], history, FIRST, comparisons)
    (record,) = add([layer("fc1", CLOUDS[1])], history, SECOND, comparisons)
    expected = change(*CLOUDS)
    assert record["change"] == record["change_previous"] == expected.value
    assert record["change_std_error"] == pytest.approx(expected.std_error, rel=1e-12)


def test_samples_that_change_with_every_pass_have_no_changes_and_are_reported_once():
    history, comparisons = History(), Comparisons()
    shuffled = ["the batches are shuffled"]
    for at in (FIRST, SECOND):
        both = [layer(name, CLOUDS[0], batch_notes=shuffled) for name in ("a", "b")]
        with pytest.warns(UserWarning, match="Callback: the batches are shuffled") as caught:
            records = add(both, history, at, comparisons)
        assert len(caught) == 1
    assert {record["change"] for record in records} == {None}
    assert {record["note"] for record in records} == set(shuffled)


def test_layers_are_compared_with_one_another_within_one_measurement():
    history = History()
    add([layer("a", CLOUDS[1])], history)
    earlier = dict(history.records[0])
    first, second = add([layer("b", CLOUDS[0]), layer("c", CLOUDS[1])], history, SECOND)
    assert history.records[0] == earlier
    assert first["from_input"] == first["from_input_std_error"] == 0
    assert second["from_input"] == change(*CLOUDS).value
    assert second["from_peak"] == 0


def failed():
    error = ZeroDivisionError("mine")
    estimates = {"twonn": Estimate(reason=repr(error))}
    return LayerResult("fc1", None, 0, 0.5, 12, estimates, errors={"twonn": error})


def test_an_estimator_that_failed_raises_after_its_record_if_asked_for():
    history = History()
    with pytest.raises(RuntimeError, match=r"twonn of layer 'fc1' failed: Zero") as caught:
        add([failed()], history, on_error="raise")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert history.records[0]["reason"] == "ZeroDivisionError('mine')"


def test_else_an_estimator_that_failed_stops_no_other_layer():
    history = History()
    add([failed(), layer("fc2", CLOUDS[0])], history)
    assert [record["layer"] for record in history.records] == ["fc1", "fc2"]


def test_spectra_are_kept_of_the_layers_that_have_one():
    history = History()
    add([layer("a", CLOUDS[0]), layer("b", CLOUDS[0], spectrum=torch.ones(3))], history)
    assert {name: len(x) for name, x in history.spectra[FIRST].items()} == {"b": 3}
    without = History()
    add([layer("a", CLOUDS[0])], without)
    assert without.spectra_by_set == {}
