"""The rules of the findings."""

import math

import pytest
import pytorch_lightning as pl
import torch

from lightning_id import History, manifolds
from lightning_id.functional.law import LAW_NOTE
from lightning_id.history.queries import before_training, describe, last_of_fit
from lightning_id.report import findings as rules
from tests.report.histories import (
    BEFORE,
    LAST,
    after_training,
    measured,
    trained_and_untrained,
    with_spectra,
)


def test_the_peak_is_reported_with_its_place_and_width():
    assert rules.peak(after_training([10, 30, 9])) == (
        "30.00 ± 0.98 at layer1, at relative depth 0.50, of 200 units."
    )
    assert rules.peak(after_training([math.nan] * 3)) is None


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (6.0, "Decreased by 50 %"),
        (18.0, "Increased by 50 %"),
        (11.5, "No significant change"),
    ],
)
def test_the_last_hidden_layer_fell_rose_or_stayed(end, said):
    found = rules.last_hidden(trained_and_untrained([12, 12, 12], [12, end, 12]))
    assert found.startswith(said)
    assert f"12.00 ± 0.98 (before training), {end:.2f} ± 0.98 (epoch 2, step 20)" in found
    assert "95 % bars from separate errors, too wide" in found


def test_a_paired_bar_decides_on_a_change():
    history = trained_and_untrained([12, 12, 12], [12, 11.5, 12])
    history.records[-2] |= {"change": -0.5, "change_std_error": 0.1}
    found = rules.last_hidden(history)
    assert found.startswith("Decreased by 4 % at layer1")
    assert found.endswith("change -0.50 ± 0.20 (paired 95 % bars).")


def test_the_last_hidden_layer_expands_again_after_its_minimum():
    history = trained_and_untrained([12, 12, 12], [12, 5, 12])
    measured(history, ("fit", 2, 30), [12, 5.7, 12])
    history.records[-2] |= {"change_lowest": 5.7 - 5.0, "change_lowest_std_error": 0.1}
    found = rules.last_hidden(history)
    assert "after its minimum of 5.00 ± 0.98 (epoch 2, step 20): +0.70 ± 0.20 (paired" in found
    history.records[-2]["change_lowest_std_error"] = 0.5
    assert "minimum" not in rules.last_hidden(history)


def test_the_last_hidden_layer_of_a_network_that_has_not_learnt_did_not_change_in_training():
    history = trained_and_untrained([12, 12, 12], [12, 6, 12])
    history.append_metrics(LAST, {"val_acc": 0.005})
    found = rules.last_hidden(history)
    assert found.startswith("The network has not learnt: no finding on training at layer1")


def test_the_last_hidden_layer_is_compared_with_the_same_samples_only():
    fewer = measured(History(), BEFORE, [12, 12, 12], n_samples=500)
    assert "500 samples" in rules.last_hidden(measured(fewer, LAST, [12, 6, 12]))
    other_data = measured(History(), BEFORE, [12, 12, 12], data="probe")
    assert "no earlier value" in rules.last_hidden(measured(other_data, LAST, [12, 6, 12]))


def test_a_test_after_the_fit_is_not_taken_for_the_trained_network():
    history = trained_and_untrained([12, 12, 12], [12, 6, 12])
    measured(history, ("test", 2, 20), [12, 7, 12], data="test")
    assert last_of_fit(history.validations()) == LAST
    assert before_training(history) == BEFORE
    assert describe(("test", 2, 20)) == "test after epoch 2, step 20"
    assert describe(("validate", 0, 0)) == "validate"


def test_a_fit_without_a_measurement_before_it_is_compared_with_its_first():
    history = measured(History(), ("fit", 0, 10), [12, 12, 12])
    assert "(epoch 1, step 10)" in rules.last_hidden(measured(history, LAST, [12, 6, 12]))


def test_pca_far_above_twonn_is_reported_by_ratio():
    ratio = rules.PCA_FAR_ABOVE
    history = after_training([10, 10, 5])
    measured(history, LAST, [10 * ratio, 10 * ratio - 1, 40], math.nan, "pca")
    found = rules.linear_above_nonlinear(history)
    assert found.startswith("At least 3 times TwoNN in 2 of 3 layers (layer0, layer2)")
    assert "Most in layer2: 40 components against 5.00 ± 0.98, ratio 8.0." in found
    near = measured(after_training([10, 10]), LAST, [12, 11], math.nan, "pca")
    assert rules.linear_above_nonlinear(near).startswith("In no layer 3 times")
    assert rules.linear_above_nonlinear(after_training([10, 10])) is None


def test_pca_below_twonn_is_explained():
    history = measured(after_training([10, 10, 5]), LAST, [10, 1, 40], math.nan, "pca")
    found = rules.linear_above_nonlinear(history)
    assert "Below TwoNN in layer1: a few directions hold 90 % of the variance" in found


def test_the_ratio_to_a_value_that_is_too_low_is_too_high():
    history = measured(after_training([30, 10]), LAST, [120, 40], math.nan, "pca")
    assert rules.linear_above_nonlinear(history).endswith("the ratio is too high.")


def test_a_gaussian_is_above_the_layers_where_error_bars_allow():
    history = measured(after_training([10, 10, 10]), LAST, [11, 30, 40], 0.5, "twonn_gaussian")
    found = rules.gaussian_above_nonlinear(history)
    assert "in 2 of 3 layers (layer1, layer2). Most in layer2: 40.00 ± 0.98 against 10.00" in found
    assert found.endswith("ratio 4.0.")
    assert rules.gaussian_above_nonlinear(after_training([10, 10])) is None


def test_a_linear_layer_has_a_gap_in_its_spectrum_and_a_curved_one_has_none():
    pl.seed_everything(0, verbose=False)
    linear = manifolds.gaussian(500, 8, ambient=60, seed=1)
    noise = 0.01 * manifolds.gaussian(500, 60, seed=2)
    harmonics = 6.28 * torch.rand(500, 1) * torch.arange(1, 31)
    curved = torch.cat([harmonics.cos(), harmonics.sin()], dim=1)
    found = rules.gap_in_spectrum(with_spectra(curved=curved, noisy=linear + noise))
    assert found.startswith("A gap in 1 of 2 layers (noisy)")
    assert found.endswith("after eigenvalue 8 of noisy.")
    exact = rules.gap_in_spectrum(with_spectra(exact=linear))
    assert exact.endswith("after eigenvalue 8 of exact.")
    alone = rules.gap_in_spectrum(with_spectra(many=manifolds.gaussian(500, 60, seed=3)))
    assert alone.startswith("No gap in any of 1 layers")
    assert rules.gap_in_spectrum(after_training([10, 10])) is None
    assert rules.gap_in_spectrum(with_spectra(narrow=linear[:, :1])) is None


def test_an_untrained_profile_is_flat_when_no_layer_is_far_from_the_median():
    away = 1 + rules.FLAT_WITHIN
    flat = trained_and_untrained([10, 10, 10 * away - 0.1], [1, 1, 1])
    assert rules.untrained_profile(flat).startswith("Flat. The layer farthest from")
    bent = trained_and_untrained([10, 10, 10 * away + 0.1], [1, 1, 1])
    assert rules.untrained_profile(bent).startswith("Not flat.")
    assert "layer2, 26 % above it" in rules.untrained_profile(bent)


def test_layers_too_narrow_for_the_dimension_do_not_bend_the_untrained_profile():
    history = measured(History(), BEFORE, [10, 10, 10])
    measured(history, BEFORE, [3.0], layers=["output"], ambient_dimension=10)
    assert rules.untrained_profile(history).startswith("Flat.")
    assert rules.untrained_profile(history).endswith("Without output, too narrow for it.")


def test_an_untrained_profile_that_is_missing_is_asked_for():
    assert "num_sanity_val_steps=-1" in rules.untrained_profile(after_training([1, 2, 3]))
    assert "no layer has" in rules.untrained_profile(trained_and_untrained([math.nan], [1]))
    assert "is 0" in rules.untrained_profile(trained_and_untrained([0, 0], [1, 1]))


def test_layers_without_a_dimension_are_reported_by_reason():
    history = after_training([5, 6])
    measured(
        history, LAST, [math.nan] * 2, layers=["dead", "gone"], reason="2 distinct rows, need 3"
    )
    measured(history, BEFORE, [math.nan], layers=["dead"], reason="elsewhere")
    assert rules.not_estimated(history) == (
        "TwoNN in dead, gone: 2 distinct rows, need 3."
        " 1 values of other measurements are missing too."
    )
    assert rules.not_estimated(after_training([5, 6])) is None


def test_a_reason_is_listed_once_for_all_layers_and_estimators():
    history = History()
    for i, layer in enumerate(("dead", "gone")):
        for estimator in ("twonn", "pca"):
            reason = f"expected 48 samples, got {96 + i} rows"
            measured(history, LAST, [math.nan], layers=[layer], estimator=estimator, reason=reason)
    assert rules.not_estimated(history) == (
        "TwoNN, PCA 90 % in dead, gone: expected 48 samples, got 96 rows (in dead; other numbers"
        " elsewhere)."
    )


def test_the_output_is_left_out_of_the_spectrum():
    clouds = {name: manifolds.gaussian(500, 8, ambient=60, seed=1) for name in ("in", "out")}
    history = with_spectra(**clouds)
    history.records[0]["role"] = "last_hidden"
    assert rules.gap_in_spectrum(history).startswith("A gap in 1 of 1 layers (in)")


def test_values_above_20_are_usually_too_low():
    found = rules.lower_bounds(after_training([5, 20.5, 19.5]))
    assert "20.50 ± 0.98 at layer1. On curved or noisy data it may be too high." in found
    assert "19.50" not in found
    broken = rules.lower_bounds(after_training([25, 26], note=LAW_NOTE))
    assert "In layer0, layer1 the neighbour ratios do not follow its law" in broken
    assert rules.lower_bounds(after_training([5, 6])) is None


def test_a_long_list_of_layers_is_cut_and_counted():
    assert "at layer5 and 4 more. On" in rules.lower_bounds(after_training([30] * 10))


def test_notes_are_repeated_once_for_all_layers():
    history = after_training([5, 6], note="projected to 4096 features")
    assert rules.notes(history) == "layer0, layer1: projected to 4096 features."
    assert rules.notes(after_training([5, 6])) is None


def test_twonn_and_ess_bracket_the_peak_and_the_last_hidden_layer():
    history = measured(after_training([10, 30, 15, 5]), LAST, [20, 60, 30, 5], 0.5, "ess")
    found = rules.bracket(history)
    assert (
        "30.00 ± 0.98 to 60.00 ± 0.98 at layer1, 15.00 ± 0.98 to 30.00 ± 0.98 at layer2." in found
    )
    assert "significantly above" not in found
    assert rules.bracket(after_training([10, 30])) is None


def test_twonn_above_ess_is_noise_or_a_dominating_direction():
    history = measured(after_training([10, 30, 15]), LAST, [3, 60, 14], 0.5, "ess")
    found = rules.bracket(history)
    assert "TwoNN is significantly above ESS in layer0: noise" in found


def test_runs_on_other_inputs_are_not_comparable():
    runs = {"a": after_training([5, 6]), "b": after_training([7, 6])}
    for history in runs.values():
        history.records[0]["role"] = "input"
    found = rules.not_comparable(runs).text
    assert found.startswith("The dimension of the input is 5.00 ± 0.98 of 100 features in a; 7.00")
    runs["b"].records[0]["value"] = 5.0
    assert rules.not_comparable(runs) is None


def test_runs_that_differ_in_what_the_dimension_depends_on_are_reported():
    runs = {"a": after_training([5, 6]), "b": after_training([5, 6], n_samples=500)}
    assert rules.not_comparable(runs).text.startswith("n_samples is 2000 in a; 500 in b.")
    assert rules.not_comparable(dict.fromkeys("ab", runs["a"])) is None


def test_classes_by_themselves_do_not_enter_the_findings():
    history = after_training([5, 6, 4])
    measured(history, LAST, [50, 60, 40], label="3")
    assert rules.peak(history).startswith("6.00")
