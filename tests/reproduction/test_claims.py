"""How a claim is judged, and that the published curves fulfil the claims made about them."""

from pathlib import Path

import pytest
import torch

from lightning_id.history import BEFORE_TRAINING, History
from reproduction.ansuini2019 import CLAIMS, IMAGENET
from reproduction.claims import (
    FAILED,
    IN_SHAPE,
    NOT_RUN,
    REPRODUCED,
    Claim,
    Run,
    at_end,
    at_start,
    at_step,
    judge,
)
from reproduction.published import published

LAYERS = published()["fig6b_mnist"]["layers"]
RUN = {"run": Run(Path(), History(), None)}
NEEDED = {"mnist", "mnist_luminance", "mnist_shuffled", "mnist_dynamics", IMAGENET}


def claim_of(**fields):
    defaults = {
        "text": "It is two.",
        "where": "Fig. 0",
        "published": {"x": 2.0},
        "limits": (("x", ">", 1.0),),
        "needs": ("run",),
    }
    return Claim(**(defaults | fields))


def run_of(profiles, metrics=None, folder=None):
    """Return a run of profiles by step; metrics go to where CSVLogger puts them."""
    history = History()
    for step, values in profiles.items():
        for order, (layer, value) in enumerate(zip(LAYERS, values, strict=True)):
            history.append(
                stage="fit" if step else BEFORE_TRAINING,
                epoch=0,
                step=step,
                layer=layer,
                order=order,
                depth=order / 6,
                estimator="twonn",
                value=float(value),
            )
    if folder is not None:
        csv = folder / "csv" / "version_0" / "metrics.csv"
        csv.parent.mkdir(parents=True)
        rows = [",".join(metrics), ",".join(str(value) for value in metrics.values())]
        csv.write_text("\n".join(rows) + "\n")
        folder /= "version_0"
    return Run(folder or Path(), history, history)


def profiled(untrained, trained, pca_untrained, pca, gaussian, spectrum):
    """Return a run of a network before and after training; the layer before the last is hidden."""
    history = History()
    for stage, twonn, linear in (
        (BEFORE_TRAINING, untrained, pca_untrained),
        ("validate", trained, pca),
    ):
        values = {
            "twonn": twonn,
            "pca": linear,
            "pca_standardized": linear,
            "twonn_gaussian": [gaussian] * len(twonn),
        }
        for estimator, by_layer in values.items():
            for order, value in enumerate(by_layer):
                history.append(
                    stage=stage,
                    epoch=0,
                    step=0,
                    layer=str(order),
                    order=order,
                    depth=order / (len(twonn) - 1),
                    role="last_hidden" if order == len(twonn) - 2 else "",
                    estimator=estimator,
                    value=float(value),
                    ambient_dimension=4096,
                )
    hidden = str(len(trained) - 2)
    history.spectra_by_set[None] = {
        v: {hidden: torch.tensor(spectrum)} for v in history.validations()
    }
    return Run(Path(), history, None)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(2.0, REPRODUCED), (2.29, REPRODUCED), (1.71, REPRODUCED), (2.31, IN_SHAPE), (0.9, FAILED)],
)
def test_the_verdict_follows_from_limits_and_tolerance(measured, verdict):
    claim = claim_of(measure=lambda run: {"x": measured})
    assert judge(claim, RUN).verdict == verdict


def test_numbers_of_another_network_or_none_are_reproduced_in_shape_at_best():
    other = claim_of(measure=lambda run: {"x": 2.0}, is_same_network=False)
    none = claim_of(measure=lambda run: {"x": 2.0}, published={})
    assert [judge(claim, RUN).verdict for claim in (other, none)] == [IN_SHAPE] * 2


def test_a_limit_may_be_another_number():
    claim = claim_of(limits=(("x", "<", "y"),), measure=lambda run: {"x": 2.0, "y": 1.0})
    assert judge(claim, RUN).verdict == FAILED
    assert claim.rule() == "x < y; published within 15%"


def test_what_is_missing_is_the_reason():
    absent = judge(claim_of(), {})
    assert (absent.verdict, absent.reason) == (NOT_RUN, "no finished run of run")
    hindered = judge(claim_of(obstacle="too long"), RUN)
    assert (hindered.verdict, hindered.reason) == (NOT_RUN, "too long")
    short = claim_of(measure=lambda run: at_step(run.history, 100))
    judgement = judge(short, {"run": run_of({0: [1] * 7, 2: [1] * 7})})
    assert judgement.verdict == NOT_RUN
    assert judgement.reason == "nothing was measured at step 100; the last step is 2"
    unknown = claim_of(measure=lambda run: {"x": at_end(run.history)["d7"]})
    judgement = judge(unknown, {"run": run_of({0: [1] * 7})})
    assert (judgement.verdict, judgement.reason) == (NOT_RUN, "no number of d7")


def test_a_published_number_that_was_not_measured_is_not_met():
    claim = claim_of(published={"x": 1.0, "y": 2.0}, measure=lambda _: {"x": 1.0}, limits=())
    assert judge(claim, RUN).verdict == IN_SHAPE


def test_a_run_is_read_from_its_folder(tmp_path):
    run = run_of({0: range(7), 5: range(1, 8)}, {"val_acc": 0.75, "train_acc": ""}, tmp_path)
    run.history.save(run.folder)
    again = Run.load(run.folder)
    assert at_start(again.history)["d1"] == 5
    assert at_end(again.history) == at_step(again.history, 5)
    assert list(at_end(again.history)) == LAYERS
    assert again.metric("val_acc") == 0.75
    for missing in (again.on_train, lambda: again.metric("train_acc"), lambda: again.metric("f1")):
        with pytest.raises(LookupError):
            missing()


@pytest.fixture
def published_runs(tmp_path):
    """Runs with the measurements of the paper."""
    curves = published()["fig6b_mnist"]
    flat = [3.0] * 7
    start, end = [14.0] * 6 + [8.0], [14.0] * 4 + [9.0, 6.4, 6.0]
    low = [14.0] * 4 + [7.0, 5.0, 5.0]
    steps = {0: start, 2: start, 5: start, 10: start, 100: low, 4650: end}
    accuracy = {"val_acc": 0.98, "train_acc": 1.0}
    vgg = published()["fig5c_vgg16"]
    names = ("ID_untrained", "ID_trained", "PCID_untrained", "PCID_trained")
    smooth = [1 / rank for rank in range(2, 500)]
    return {
        IMAGENET: profiled(*(vgg[name] for name in names), 100, smooth),
        "mnist": run_of({0: flat, 9: curves["MNIST"]}, {"val_acc": 0.99}, tmp_path / "a"),
        "mnist_luminance": run_of({0: flat, 9: curves["MNIST_star"]}, accuracy, tmp_path / "b"),
        "mnist_shuffled": run_of({0: flat, 9: curves["MNIST_dagger"]}, accuracy, tmp_path / "c"),
        "mnist_dynamics": run_of(steps),
    }


def test_the_published_curves_reproduce_the_claims(published_runs):
    for claim in CLAIMS:
        verdict = judge(claim, published_runs).verdict
        compared = claim.is_same_network and claim.published
        assert verdict == (NOT_RUN if claim.obstacle else REPRODUCED if compared else IN_SHAPE)


def test_flat_profiles_reproduce_no_claim_but_that_of_flatness(published_runs):
    flat = run_of({step: [5.0] * 7 for step in (0, 2, 5, 10, 100)})
    runs = {name: Run(run.folder, flat.history, flat.train) for name, run in published_runs.items()}
    runs[IMAGENET] = profiled(*[[50.0] * 4] * 4, 50, [8.0, 4.0] + [1.0] * 100)
    held = [c.text for c in CLAIMS if judge(c, runs).verdict not in (FAILED, NOT_RUN)]
    excepted = "flat", "learnt", "memorised", "far below the number of units"
    assert all(any(words in says for words in excepted) for says in held)


def test_every_claim_has_a_rule_or_an_obstacle_and_every_experiment_is_needed():
    assert {name for claim in CLAIMS for name in claim.needs} == NEEDED
    for claim in CLAIMS:
        assert bool(claim.rule()) != bool(claim.obstacle)
        assert claim.published or not claim.obstacle


def test_the_published_numbers_name_their_source():
    assert set(published()["source"]) == {"work", "figures", "text"}


def test_a_profile_after_training_is_none_of_the_untrained_network():
    trained = run_of({100: range(1, 8)})
    with pytest.raises(LookupError, match="nothing was measured before training"):
        at_start(trained.history)


def test_a_run_without_metrics_is_a_reason(tmp_path):
    claim = claim_of(measure=lambda run: {"x": run.metric("val_acc")})
    judged = judge(claim, {"run": Run(tmp_path / "version_0", History(), None)})
    assert (judged.verdict, judged.reason) == (NOT_RUN, "no val_acc was logged")


def test_a_claim_on_an_estimator_that_was_not_measured_is_not_run():
    runs = {"run": run_of({1: range(1, 8)})}
    claim = claim_of(measure=lambda run: {"x": max(at_end(run.history, "pca").values())})
    assert (judge(claim, runs).verdict, judge(claim, runs).reason) == (
        NOT_RUN,
        "no pca dimension was measured",
    )
