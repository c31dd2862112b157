"""Modules of other packages: the fit is the same, the layers are sensible, the numbers are right.

`python -m tests.others [NAME ...]` prints layers and numbers of the cases, from which new pins are
read.
"""

import importlib.util
import math

import pytest

from tests.others.cases import CASES
from tests.others.harness import Outcome, deviations, is_sane, kind_of, run

# The packages of the cases below that the tests need anyway: alone they are no reason to run.
_ALWAYS_THERE = {"lightning", "pytorch_lightning", "torchvision"}
_INSTALLED = {
    case.package for case in CASES.values() if importlib.util.find_spec(case.package) is not None
}
if not _INSTALLED - _ALWAYS_THERE:
    pytest.skip("needs the extra `others`: make others", allow_module_level=True)

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the packages; ours are pinned below
    pytest.mark.timeout(300),
]


@pytest.fixture(
    scope="module",
    params=[name for name, case in CASES.items() if case.package in _INSTALLED],
)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def outcome(name: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(CASES[name], tmp_path_factory.mktemp("fit"))


def test_the_training_is_the_same_to_the_last_bit(outcome):
    assert outcome.plain.tensors
    assert outcome.differences == []
    assert outcome.watched.hooks == outcome.plain.hooks  # hooks of transformers stay


def test_auto_picks_these_layers(name, outcome):
    assert list(outcome.of("twonn")) == CASES[name].layers.split()


def test_depths_lie_between_input_and_output(outcome):
    found = outcome.of("twonn")
    depths = {layer: record["depth"] for layer, record in found.items()}
    never = [layer for layer, depth in depths.items() if depth is None]
    assert all(kind_of(found[layer]["reason"]) == "absent" for layer in never)
    assert all(0 <= depth <= 1 for depth in depths.values() if depth is not None)
    assert max(depth for depth in depths.values() if depth is not None) > 0


def test_numbers_equal_brute_force(outcome):
    found = deviations(outcome)
    with_number = [k for k, record in outcome.of("twonn").items() if record["reason"] is None]
    assert with_number == [layer for layer in outcome.of("twonn") if layer in found]
    assert {layer: twonn for layer, (twonn, _) in found.items() if twonn > 1e-4} == {}
    assert {layer: pca for layer, (_, pca) in found.items() if pca != 0} == {}


def test_a_number_is_one_that_its_rows_can_have_or_there_is_a_reason(name, outcome):
    reasons = {}
    for layer, record in outcome.of("twonn").items():
        if record["reason"] is None:
            assert is_sane(record), record
        else:
            reasons[layer] = kind_of(record["reason"])
    case = CASES[name]
    assert reasons in (case.reasons, {**case.reasons, **case.machine})


def test_keys_of_the_summary_are_there_or_absent(name, outcome):
    case = CASES[name]
    found = {k: r["role"] for k, r in outcome.of("twonn").items() if r["reason"] is None}
    assert ("input" in found) == (case.input_of is not None)
    assert ("last_hidden" in found.values()) == (case.head is not None)
    logged = {key for metrics in outcome.watched.logged for key in metrics}
    assert ("id/last_hidden" in logged) == (case.head is not None)
    assert "id/peak" in logged


def test_no_nan_is_logged(outcome):
    for metrics in outcome.watched.logged:
        assert all(math.isfinite(value) for key, value in metrics.items() if key.startswith("id"))


def test_a_warning_of_each_kind_is_given_once(name, outcome):
    given = outcome.watched.warnings
    kinds = [kind_of(text) for text in given]
    # Whether 200 rows follow the law of an estimator is a matter of the data, and of chance.
    chance = {"law", *CASES[name].machine.values()}
    assert sorted(kind for kind in kinds if kind not in chance) == sorted(CASES[name].warns), given
