"""Estimators by name: the built-in ones, and one that a user adds."""

import pytest
import torch

from lightning_id import functional, manifolds
from lightning_id.functional import (
    Estimate,
    Geometry,
    estimator_spec,
    get_estimator,
    register_estimator,
)
from lightning_id.functional.registry import ESTIMATORS


@pytest.fixture(autouse=True)
def restored():
    """Forget what a test registers."""
    before = dict(ESTIMATORS)
    yield
    ESTIMATORS.clear()
    ESTIMATORS.update(before)


def largest_distance(geometry):
    """Return a number that is made from the rows alone."""
    if geometry.reason is not None:
        return Estimate(reason=geometry.reason)
    return Estimate(value=float(torch.pdist(geometry.x).max()), n_samples=geometry.n_samples)


BY_NAME = {
    "twonn": "twonn_dimension",
    "twonn_gaussian": "gaussian_twonn_dimension",
    "pca": "pca_dimension",
    "gride": "gride_dimension",
    "gride_plateau": "gride_plateau_dimension",
    "mle": "mle_dimension",
    "ess": "ess_dimension",
    "participation_ratio": "participation_ratio",
    "effective_rank": "effective_rank",
}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_name_gives_the_function_with_its_default_arguments(name):
    x = manifolds.ball(100, 3)
    function = getattr(functional, BY_NAME[name])
    assert repr(get_estimator(name)(Geometry(x))) == repr(function(x))


def test_pca_standardized_sees_no_units_of_measurement():
    x = manifolds.ball(100, 3) * torch.tensor([1.0, 1.0, 100.0])
    assert float(get_estimator("pca")(Geometry(x))) == 1
    assert float(get_estimator("pca_standardized")(Geometry(x))) == 3


def test_an_estimator_can_be_added_and_replaced():
    register_estimator("diameter", largest_distance)
    x = manifolds.sphere(200, 2)
    assert 1.9 < float(get_estimator("diameter")(Geometry(x))) <= 2
    register_estimator("diameter", lambda geometry: Estimate(value=1.0))
    assert float(get_estimator("diameter")(Geometry(x))) == 1


def test_an_estimator_brings_its_texts_and_its_name_stands_for_missing_ones():
    register_estimator("diameter", largest_distance, title="diameter of the cloud")
    spec = estimator_spec("diameter")
    assert (spec.title, spec.axis_label) == ("diameter of the cloud",) * 2
    assert (estimator_spec("twonn").title, estimator_spec("twonn").lower_bound_above) == (
        "TwoNN",
        20,
    )
    elsewhere = estimator_spec("registered_elsewhere")
    assert elsewhere.title == elsewhere.axis_label == "registered_elsewhere"
    with pytest.raises(ValueError, match="no estimator named 'registered_elsewhere'"):
        elsewhere(Geometry(manifolds.ball(10, 2)))


def test_an_unknown_name_lists_the_names():
    register_estimator("diameter", largest_distance)
    with pytest.raises(ValueError, match=r"no estimator named 'two_nn'.*diameter.*gride.*twonn"):
        get_estimator("two_nn")


def test_a_built_in_name_cannot_be_taken():
    with pytest.raises(ValueError, match="'twonn' is built in"):
        register_estimator("twonn", largest_distance)


@pytest.mark.parametrize("name", ["", "a b", "id/x", "2nn"])
def test_a_name_that_makes_no_key_is_refused(name):
    with pytest.raises(ValueError, match="expected letters, digits and underscores"):
        register_estimator(name, largest_distance)


def test_a_name_or_a_function_of_another_type_is_refused():
    with pytest.raises(ValueError, match="`estimators`: expected names, got 3"):
        functional.get_estimator(3)
    with pytest.raises(ValueError, match="`function`: expected a function of a Geometry, got 3"):
        functional.register_estimator("three", 3)
