"""The tables of a report, and the texts on estimators."""

import inspect
import re

import pytest
import torch

from lightning_id import functional
from lightning_id.callback import CallbackBase
from lightning_id.callback.loggers import tensorboard_layout
from lightning_id.figures import depth_profile
from lightning_id.functional import effective_rank, pca_dimension, twonn_dimension
from lightning_id.functional.registry import _BUILT_IN, estimator_spec
from lightning_id.history.tables import end_table
from lightning_id.report.page import html_page
from lightning_id.report.tables import cost_table, how_made, layer_table, tidy_csv
from tests.pages import ROOT
from tests.report.histories import after_training, whole_run


def test_the_table_has_the_untrained_and_the_trained_network():
    table = layer_table(whole_run())
    assert table[0] == [
        "layer",
        "depth",
        "width",
        "TwoNN",
        "PCA 90 %",
        "TwoNN before",
        "PCA before",
    ]
    assert table[2] == ["layer1", "0.33", "200", "30.00 ± 0.98", "150", "12.00 ± 0.98", "60"]


def test_how_the_numbers_were_made_is_listed():
    history = whole_run()
    facts = dict(how_made(history))
    assert facts["Data"] == "2000 samples of val in each measurement"
    history.append(**(history.records[-1] | {"label": "3", "n_samples": 100}))
    assert dict(how_made(history))["Data"] == facts["Data"]
    assert facts["Precision"] == "float32"
    assert facts["Cost"].startswith("6.0 s of estimating in all, 2.00 s for the table")
    assert {"torch", "Python", "lightning-id"} <= set(re.findall(r"[\w-]+", facts["Versions"]))
    assert cost_table(whole_run())[1] == [
        "layer0",
        "TwoNN",
        "2000",
        "1990",
        "10",
        "0",
        "0.020",
        "0.250",
    ]


def test_the_methods_are_described_as_they_are_by_default():
    assert "smallest 90 %" in estimator_spec("twonn").method
    assert inspect.signature(twonn_dimension).parameters["discard_fraction"].default == 0.1
    assert "90 %" in estimator_spec("pca").method
    assert inspect.signature(pca_dimension).parameters["explained_variance"].default == 0.9
    assert "entropy of the singular values" in estimator_spec("effective_rank").method
    singular = torch.tensor([3.0, 1.0])  # their entropy is not that of the eigenvalues
    share = singular / singular.sum()
    axes = torch.eye(2) * singular
    expected = float((-(share * share.log()).sum()).exp())
    assert float(effective_rank(torch.cat((axes, -axes)))) == pytest.approx(expected)


def test_every_estimator_is_documented():
    page = (ROOT / "docs/reference/functional.md").read_text()
    docstring = inspect.getdoc(CallbackBase)
    omitted = []
    for spec in _BUILT_IN:
        function = getattr(spec.function, "func", spec.function)  # of a partial
        places = {
            "the docstring of the callback": f'``"{spec.name}"``' in docstring,
            "functional/__init__.py": function.__name__ in functional.__all__,
            "docs/reference/functional.md": f"{function.__module__}.{function.__name__}\n" in page,
        }
        omitted += [f"{spec.name}: {place}" for place, has_it in places.items() if not has_it]
    assert not omitted, "\n".join(omitted)


def test_an_estimator_that_is_added_in_one_place_has_its_texts_everywhere(monkeypatch, tmp_path):
    monkeypatch.setattr(functional.registry, "ESTIMATORS", dict(functional.ESTIMATORS))
    functional.register_estimator(
        "mine", twonn_dimension, title="My dimension", axis_label="dimension (mine)", method="magic"
    )
    history = after_training([5, 6, 4], estimator="mine")
    assert "My dimension" in end_table(history)
    assert depth_profile(history).axes[0].get_ylabel() != "dimension (mine)"
    assert depth_profile(history, "mine").axes[0].get_ylabel() == "dimension (mine)"
    page = html_page({"run": history})
    assert "My dimension of 2000 samples" in page
    assert "<dt>My dimension</dt><dd>magic</dd>" in page
    assert tidy_csv({"run": history}).count(",mine,") == 3
    assert "My dimension" in tensorboard_layout(["layer0"], ["mine"])["Intrinsic dimension"]
