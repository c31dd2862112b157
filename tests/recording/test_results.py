"""The estimates of one layer: their records and remarks, and the run of the estimators."""

import dataclasses
import math
import warnings

import pytest
import torch

from lightning_id import manifolds
from lightning_id.functional import (
    Change,
    Estimate,
    get_estimator,
    pca_dimension,
    twonn_dimension,
)
from lightning_id.functional.eigenvalues import LaterSpectrum
from lightning_id.functional.leading import SMALLEST, Leading
from lightning_id.functional.ratios import CoarseFeaturesWarning
from lightning_id.history import COLUMNS
from lightning_id.recording.processes import SingleProcess
from lightning_id.recording.results import Changes, Estimates, LayerResult, run_estimators

X = manifolds.ball(80, 4, ambient=12)
ESTIMATORS = {"twonn": twonn_dimension, "pca": pca_dimension}


def result(**fields):
    return LayerResult("fc1", None, 0, 0.5, 12, **fields)


def test_a_record_joins_the_notes_of_batches_layer_and_estimate():
    estimate = Estimate(value=3.0, note="ties")
    ours = result(estimates={"twonn": estimate}, notes=["projected"], batch_notes=["shuffled"])
    (fields,) = ours.records()
    assert fields["note"] == "shuffled; projected; ties"
    assert (fields["layer"], fields["depth"], fields["ambient_dimension"]) == ("fc1", 0.5, 12)
    plain = dataclasses.replace(ours, notes=[], batch_notes=[])
    plain.estimates = {"twonn": Estimate(value=3.0)}
    assert [fields["note"] for fields in plain.records()] == [None]


def test_one_reason_of_several_estimators_is_one_remark():
    missing = Estimate(reason="too few rows")
    ours = result(estimates={"twonn": missing, "pca": missing, "mle": Estimate(reason="other")})
    assert list(ours.remarks()) == [
        "no twonn or pca dimension: too few rows",
        "no mle dimension: other",
    ]


def test_notes_are_remarks_and_a_number_without_a_note_is_none():
    noted = Estimate(value=3.0, note="ties")
    ours = result(estimates={"twonn": noted, "pca": Estimate(value=2.0)}, notes=["projected"])
    assert list(ours.remarks()) == ["twonn dimension: ties", "projected"]


def test_notes_on_the_rule_and_on_padding_are_in_the_record_and_no_remarks():
    ours = result(
        estimates={"twonn": Estimate(value=3.0)},
        rule_notes=["the first rows are the samples"],
        padding_notes=["padding by attention_mask is left out"],
        batch_notes=["shuffled"],
    )
    (fields,) = ours.records()
    assert fields["note"] == (
        "shuffled; the first rows are the samples; padding by attention_mask is left out"
    )
    assert list(ours.remarks()) == []


def test_records_of_classes_follow_the_ones_of_all_rows_and_name_their_label():
    ours = result(
        estimates={"twonn": Estimate(5.0)}, seconds={"twonn": 0.25}, spectrum=torch.ones(3)
    )
    error = ZeroDivisionError("mine")
    estimates, seconds = {"twonn": Estimate(3.0)}, {"twonn": 0.5}
    ours.add_class(7, Estimates(estimates=estimates, errors={"twonn": error}, seconds=seconds))
    whole, of_class = ours.records()
    assert (whole["value"], whole["seconds"]) == (5.0, 0.75)  # of the classes too
    assert (of_class["label"], of_class["value"]) == ("7", 3.0)
    assert "label" not in whole
    assert "seconds" not in of_class
    assert ours.errors == {"twonn": error}
    assert torch.equal(ours.spectrum, torch.ones(3))


def test_changes_are_columns_of_the_record_of_their_estimator():
    changes = Changes(*(Change(float(i), i / 10) for i in range(1, 4)))
    ours = result(
        estimates={"twonn": Estimate(5.0), "pca": Estimate(3.0)}, changes={"twonn": changes}
    )
    twonn, pca = ours.records()
    assert {name: value for name, value in twonn.items() if name.startswith("change")} == {
        "change": 1.0,
        "change_std_error": 0.1,
        "change_previous": 2.0,
        "change_previous_std_error": 0.2,
        "change_lowest": 3.0,
        "change_lowest_std_error": 0.3,
    }
    assert not changes.columns().keys() & pca.keys()
    assert twonn.keys() <= COLUMNS.keys()


# --- the run -------------------------------------------------------------------------------------


class Ranks(SingleProcess):
    """One process that counts its geometries, and may be unable to make one or to agree."""

    def __init__(self, fails_in=None):
        self.n_geometries, self.fails_in = 0, fails_in

    def geometry(self, rows):
        self.n_geometries += 1
        if self.fails_in == "geometry":
            raise MemoryError("too large")
        return super().geometry(rows)

    def estimate(self, estimator, geometry):
        if self.fails_in == "estimate":
            raise ConnectionError("a rank is gone")
        return super().estimate(estimator, geometry)


def test_estimators_share_one_geometry_and_have_their_own_seconds():
    processes = Ranks()
    found = run_estimators(X, ESTIMATORS, processes)
    assert found.estimates == {name: estimator(X) for name, estimator in ESTIMATORS.items()}
    assert found.errors == {}
    assert not found.is_aborted
    assert list(found.seconds) == ["twonn", "pca"]
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert processes.n_geometries == 1


def test_an_error_is_a_reason_and_later_estimators_have_a_fresh_geometry():
    def broken(geometry):
        raise ZeroDivisionError("mine")

    processes = Ranks()
    found = run_estimators(X, {"broken": broken, **ESTIMATORS}, processes)
    assert found.estimates["broken"] == Estimate(reason="ZeroDivisionError('mine')", n_samples=80)
    assert found.estimates["twonn"] == twonn_dimension(X)
    assert list(found.errors) == ["broken"]
    assert not found.is_aborted
    assert processes.n_geometries == 2


@pytest.mark.parametrize("fails_in", ["geometry", "estimate"])
def test_without_a_geometry_or_an_agreement_all_estimators_are_aborted(fails_in):
    found = run_estimators(X, ESTIMATORS, Ranks(fails_in))
    assert found.is_aborted
    assert list(found.estimates) == list(found.errors) == ["twonn", "pca"]
    assert len({estimate.reason for estimate in found.estimates.values()}) == 1
    assert list(found.seconds) == ["twonn"]


def test_the_frames_of_an_error_hold_no_rows():
    def broken(geometry):
        copy = geometry.x.clone()  # as large as the rows
        raise ZeroDivisionError(str(copy.shape))

    error = run_estimators(X, {"broken": broken}, SingleProcess()).errors["broken"]
    frame = error.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    assert "copy" not in frame.tb_frame.f_locals


def test_a_value_that_is_not_finite_has_a_reason():
    def silent(geometry):
        return Estimate(math.inf)

    assert run_estimators(X, {"mine": silent}, SingleProcess()).estimates["mine"].reason == (
        "mine gave inf and no reason"
    )
    stated = run_estimators(X, {"mine": lambda _: Estimate(reason="flat")}, SingleProcess())
    assert stated.estimates["mine"].reason == "flat"


def test_what_is_no_estimate_is_a_type_error_with_the_way_out():
    errors = run_estimators(X, {"mine": lambda _: 3.0}, SingleProcess()).errors
    with pytest.raises(TypeError, match=r"expected an Estimate of mine, got float; return data"):
        raise errors["mine"]


def test_warnings_on_coarse_features_are_left_to_the_callback():
    coarse = (manifolds.gaussian(1500, 2, ambient=64) + 1).bfloat16()
    with pytest.warns(CoarseFeaturesWarning):
        twonn_dimension(coarse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run_estimators(coarse, {"twonn": twonn_dimension}, SingleProcess())
    assert "too coarse" in found.estimates["twonn"].note


@pytest.mark.parametrize(
    ("names", "is_later"), [(["pca"], True), (["pca", "effective_rank"], False)]
)
def test_a_spectrum_is_computed_later_where_no_estimator_needs_it(names, is_later):
    x, leading = manifolds.ball(SMALLEST, 4, ambient=SMALLEST), Leading()
    estimators = {name: get_estimator(name) for name in names}
    found = run_estimators(x, estimators, SingleProcess(), leading)
    assert isinstance(found.spectrum, LaterSpectrum) is is_later
    whole = run_estimators(x, estimators, SingleProcess())
    assert found.estimates["pca"].value == whole.estimates["pca"].value
    spectrum = found.spectrum.eigenvalues if is_later else found.spectrum
    torch.testing.assert_close(spectrum, whole.spectrum)


def test_without_eigenvalues_there_is_no_spectrum():
    assert run_estimators(X, {"twonn": twonn_dimension}, SingleProcess()).spectrum is None
