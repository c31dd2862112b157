"""The report: its rules, its page in a browser, its other formats, and input with little in it."""

import csv
import functools
import html
import inspect
import json
import math
import re
import subprocess
import sys

import pytest
import pytorch_lightning as pl
import torch

from lightning_id import History, functional, manifolds
from lightning_id.callback import CallbackBase
from lightning_id.callback.loggers import tensorboard_layout
from lightning_id.cli import main
from lightning_id.figures import depth_profile
from lightning_id.functional import Geometry, effective_rank, pca_dimension, twonn_dimension
from lightning_id.functional.registry import _BUILT_IN, estimator_spec
from lightning_id.history.queries import before_training, describe, last_of_fit
from lightning_id.history.tables import end_table
from lightning_id.report import findings as rules
from lightning_id.report import write_report
from lightning_id.report.command import load_runs
from lightning_id.report.page import html_page, markdown
from lightning_id.report.tables import cost_table, how_made, layer_table, tidy_csv
from tests.browser import find_chromium, headless_chromium
from tests.pages import ROOT

BEFORE, LAST = ("before_training", 0, 0), ("fit", 1, 20)
NASTY = [
    "</script><script>bad()</script>",
    '<b>bold</b> & "quoted"',
    "couche|é.ö",
    "x" * 200,
    "*a*",
]


def measured(history, validation, values, error=0.5, estimator="twonn", layers=None, **fields):
    """Add a measurement: the values of the layers in order of execution."""
    stage, epoch, step = validation
    layers = layers or [f"layer{order}" for order in range(len(values))]
    for order, (layer, value) in enumerate(zip(layers, values, strict=True)):
        record = {
            "data": "val",
            "order": order,
            "depth": order / max(len(values) - 1, 1),
            "ambient_dimension": 100 * (order + 1),
            "std_error": error,
            "low": value - 2 * error,
            "high": value + 2 * error,
            "n_samples": 2000,
            "n_used": 1990,
            "n_duplicates": 10,
            "n_ties": 0,
            "goodness": 0.02,
            "dtype": "float32",
            "seconds": 0.25,
            "backend": "gram",
            "reduce": "flatten",
            "role": "last_hidden" if order == len(values) - 2 else None,
        }
        history.append(
            stage=stage,
            epoch=epoch,
            step=step,
            layer=layer,
            estimator=estimator,
            value=float(value),
            **record | fields,
        )
    return history


def after_training(values, **fields):
    return measured(History(), LAST, values, **fields)


def trained_and_untrained(start, end, **fields):
    return measured(measured(History(), BEFORE, start, **fields), LAST, end, **fields)


def whole_run(layers=None):
    """A run with everything that a report shows."""
    history = History()
    course = [(BEFORE, [12, 12, 12, 9]), (("fit", 0, 10), [12, 22, 10, 7]), (LAST, [12, 30, 9, 6])]
    for validation, values in course:
        measured(history, validation, values, layers=layers)
        components = [5.0 * value for value in values]
        measured(history, validation, components, math.nan, "pca", layers)
        history.metrics.append(
            dict(zip(("stage", "epoch", "step"), validation, strict=True))
            | {"name": "val_acc", "value": 0.9}
        )
    return history


# --- rules ---------------------------------------------------------------------------------------


def test_a_hunchback_is_a_peak_inside_above_both_ends_by_the_combined_error_bars():
    above = rules.ERROR_BARS * math.hypot(0.5, 0.5)
    assert rules.hunchback(after_training([10, 10 + 1.01 * above, 9])).startswith("Yes.")
    low = rules.hunchback(after_training([10, 10 + 0.99 * above, 9]))
    assert low.startswith("No.")
    assert "not above layer0 by" in low
    both = rules.hunchback(after_training([10, 8, 9, 10]))
    assert "not above layer0 and layer3 by" in both


def test_without_error_bars_or_without_an_inside_no_hunchback_is_told():
    assert "error bars" in rules.hunchback(after_training([10, 30, 9], error=math.nan))
    assert rules.hunchback(after_training([10, 30])).startswith("Inconclusive")


def test_the_peak_is_told_with_its_place_and_width():
    assert rules.peak(after_training([10, 30, 9])) == (
        "30.00 ± 0.50 at layer1, at relative depth 0.50, of 200 units."
    )
    assert rules.peak(after_training([math.nan] * 3)) is None


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (6.0, "Decreased by 50 %"),
        (18.0, "Increased by 50 %"),
        (11.5, "No change beyond the combined error"),
    ],
)
def test_the_last_hidden_layer_fell_rose_or_stayed(end, said):
    told = rules.last_hidden(trained_and_untrained([12, 12, 12], [12, end, 12]))
    assert told.startswith(said)
    assert f"12.00 ± 0.50 (before training), {end:.2f} ± 0.50 (epoch 2, step 20)" in told


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


def test_pca_far_above_twonn_is_told_by_ratio():
    ratio = rules.PCA_FAR_ABOVE
    history = after_training([10, 10, 5])
    measured(history, LAST, [10 * ratio, 10 * ratio - 1, 40], math.nan, "pca")
    told = rules.linear_above_nonlinear(history)
    assert told.startswith("At least 3 times TwoNN in 2 of 3 layers (layer0, layer2)")
    assert "Most in layer2: 40 components against 5.00 ± 0.50, ratio 8.0." in told
    near = measured(after_training([10, 10]), LAST, [12, 11], math.nan, "pca")
    assert rules.linear_above_nonlinear(near).startswith("In no layer 3 times")
    assert rules.linear_above_nonlinear(after_training([10, 10])) is None


def test_the_ratio_to_a_lower_bound_is_said_to_be_an_upper_one():
    history = measured(after_training([30, 10]), LAST, [120, 40], math.nan, "pca")
    assert rules.linear_above_nonlinear(history).endswith("the ratio is an upper one.")


def test_a_gaussian_is_above_the_layers_where_error_bars_allow():
    history = measured(after_training([10, 10, 10]), LAST, [11, 30, 40], 0.5, "twonn_gaussian")
    told = rules.gaussian_above_nonlinear(history)
    assert "in 2 of 3 layers (layer1, layer2). Most in layer2: 40.00 ± 0.50 against 10.00" in told
    assert told.endswith("ratio 4.0.")
    assert rules.gaussian_above_nonlinear(after_training([10, 10])) is None


def with_spectra(**clouds):
    """Return a history of the TwoNN dimensions and the spectra of clouds."""
    ids = [float(twonn_dimension(cloud)) for cloud in clouds.values()]
    history = after_training(ids, layers=list(clouds), n_samples=500)
    history.keep_spectra(LAST, {name: Geometry(x).spectrum() for name, x in clouds.items()})
    return history


def test_a_linear_layer_has_a_gap_in_its_spectrum_and_a_curved_one_has_none():
    pl.seed_everything(0, verbose=False)
    linear = manifolds.gaussian(500, 8, ambient=60, seed=1)
    noise = 0.01 * manifolds.gaussian(500, 60, seed=2)
    harmonics = 6.28 * torch.rand(500, 1) * torch.arange(1, 31)
    curved = torch.cat([harmonics.cos(), harmonics.sin()], dim=1)
    told = rules.gap_in_spectrum(with_spectra(curved=curved, noisy=linear + noise))
    assert told.startswith("A gap in 1 of 2 layers (noisy)")
    assert told.endswith("after eigenvalue 8 of noisy.")
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


def test_layers_without_a_dimension_are_told_by_reason():
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


def test_values_above_20_are_said_to_be_lower_bounds():
    told = rules.lower_bounds(after_training([5, 20.5, 19.5]))
    assert "20.50 ± 0.50 at layer1. The" in told
    assert "19.50" not in told
    assert rules.lower_bounds(after_training([5, 6])) is None


def test_a_long_list_of_layers_is_cut_and_counted():
    assert "at layer5 and 4 more." in rules.lower_bounds(after_training([30] * 10))


def test_notes_are_repeated_once_for_all_layers():
    history = after_training([5, 6], note="projected to 4096 features")
    assert rules.notes(history) == "layer0, layer1: projected to 4096 features."
    assert rules.notes(after_training([5, 6])) is None


def test_runs_that_differ_in_what_the_dimension_depends_on_are_told():
    runs = {"a": after_training([5, 6]), "b": after_training([5, 6], n_samples=500)}
    assert rules.not_comparable(runs).text.startswith("n_samples is 2000 in a; 500 in b.")
    assert rules.not_comparable(dict.fromkeys("ab", runs["a"])) is None


def test_classes_by_themselves_do_not_enter_the_findings():
    history = after_training([5, 6, 4])
    measured(history, LAST, [50, 60, 40], label="3")
    assert rules.peak(history).startswith("6.00")


# --- tables --------------------------------------------------------------------------------------


def test_the_table_has_the_untrained_network_beside_the_trained_one():
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
    assert table[2] == ["layer1", "0.33", "200", "30.00 ± 0.50", "150", "12.00 ± 0.50", "60"]


def test_how_the_numbers_were_made_is_told():
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


# --- formats and the command ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    whole_run().save(tmp_path / "runs" / "version_0")
    return tmp_path / "runs" / "version_0"


def test_one_run_needs_no_list_and_none_is_an_error(folder):
    assert write_report(str(folder), format="markdown") == folder / "report.md"
    with pytest.raises(ValueError, match="expected at least one folder of a run, got none"):
        write_report([])


def test_the_command_writes_the_page_into_the_folder_of_the_run_and_says_where(folder, capsys):
    main(["report", str(folder)])
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "Intrinsic dimension: runs/version_0</title>" in page
    assert "Decreased by 25 % at layer2" in page
    assert page.count("data:image/png;base64,") >= 3


def test_the_command_is_found_from_the_shell(folder):
    command = [sys.executable, "-m", "lightning_id", "report", folder, "--format", "markdown"]
    subprocess.run(command, check=True, capture_output=True)
    assert (folder / "report.md").exists()


def test_help_names_the_report(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lightning-id"])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "lightning-id report RUN" in " ".join(capsys.readouterr().out.split())


def test_the_picture_is_a_png(folder):
    assert write_report([folder], format="png").read_bytes().startswith(b"\x89PNG")
    both = write_report([folder, folder], folder / "new" / "both.png", "png")
    assert both.read_bytes().startswith(b"\x89PNG")


def test_the_csv_has_the_records_of_all_runs(tmp_path):
    for name in "ab":
        whole_run().save(tmp_path / name)
    path = write_report([tmp_path / "a", tmp_path / "b" / "history.csv"], tmp_path / "c", "csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["a"] * 24 + ["b"] * 24
    assert rows[0]["value"] == "12.0"


def test_the_markdown_has_findings_table_and_making():
    text = markdown({"a_run": whole_run(NASTY[:4])})
    assert text.startswith("# Intrinsic dimension: a\\_run\n")
    assert "- **Hunchback.** Yes." in text
    assert "| couche\\|é.ö | 0.67 |" in text
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "- **Precision.** float32" in text


def test_a_folder_without_a_history_says_where_there_is_one(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["report", str(folder.parent)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"Expected history.csv in the folder {folder.parent}, got none" in said
    assert f"there is one in {folder}" in said


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        load_runs([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match="at the first validation that it measures"):
        load_runs([tmp_path])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv"):
        load_runs([tmp_path / "other.csv"])
    with pytest.raises(ValueError, match="html, png, csv, markdown, got 'pdf'"):
        write_report([tmp_path], format="pdf")


def test_a_folder_is_no_file_to_write_to(tmp_path, capsys):
    whole_run().save(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path), "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "Is a directory" in capsys.readouterr().err


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    paths = [tmp_path / "a" / "version_0", tmp_path / "b" / "version_0"]
    for path in paths:
        whole_run().save(path)
    assert list(load_runs(paths)) == ["a/version_0", "b/version_0"]
    assert list(load_runs(paths[:1])) == list(load_runs(paths[:1] * 2)) == ["a/version_0"]
    inside = paths[0] / "train"
    whole_run().save(inside)
    assert list(load_runs([paths[0], inside])) == ["version_0", "version_0/train"]


# --- the page ------------------------------------------------------------------------------------

LITTLE = {
    "empty": (History(), "the history has no records"),
    "one validation": (measured(History(), BEFORE, [5, 6, 4]), "no earlier value"),
    "one layer": (trained_and_untrained([5], [6]), "this profile has 1"),
    "nothing estimated": (
        after_training([math.nan] * 3, reason="too few rows"),
        "TwoNN in layer0, layer1, layer2: too few rows.",
    ),
    "no depth": (after_training([math.nan] * 2, depth=None, reason="never called"), "never called"),
    "60 layers": (trained_and_untrained([12] * 60, [30] * 60), "and 54 more"),
    "pca alone": (after_training([5, 6, 4], error=math.nan, estimator="pca"), "PCA 90 % of 2000"),
    "only a test": (measured(History(), ("test", 3, 9), [5, 6, 4]), "test after epoch 3"),
}


@functools.cache
def page_of_little(name):
    return html_page({"run": LITTLE[name][0]})


@pytest.mark.parametrize("name", LITTLE)
def test_a_page_of_little_says_what_is_true(name):
    said = LITTLE[name][1]
    page = page_of_little(name)
    assert said in html.unescape(page.split("<script")[0])
    assert "nan" not in re.sub(
        r"<script.*?</script>|data:[^\"]*|\w*nan\w+", "", page, flags=re.DOTALL
    )


def test_runs_of_little_are_laid_over_each_other():
    few = [name for name in LITTLE if name != "60 layers"]
    page = html_page({name: LITTLE[name][0] for name in few})
    assert all(f"<h3>{name}</h3>" in page for name in few)


def test_names_break_out_of_nothing():
    page = html_page({"<i>run</i></title>": whole_run(NASTY[:4]), "other": whole_run(NASTY[1:])})
    plain = html_page({"a": whole_run(), "other": whole_run()})
    for tag in ("<script", "</script", "<b>", "<i>", "</title"):
        assert page.count(tag) == plain.count(tag)
    for name in NASTY:
        assert html.escape(name) in page.replace("&#34;", "&quot;")


def test_the_page_forbids_itself_to_fetch_anything():
    page = html_page({"a": whole_run()})
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|iframe|script[^>]*\ssrc|img[^>]*src=\"(?!data:))", page)


def test_200_validations_of_16_layers_make_a_page_below_8_mb():
    history = History()
    for step in range(200):
        measured(history, ("fit", step, step), [10 + math.sin(i) for i in range(16)])
    assert len(html_page({"long": history})) < 8e6


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium without a network."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    if find_chromium() is None:
        pytest.skip("chromium and chromedriver are not installed")
    with headless_chromium() as browser:
        browser.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        yield browser


def opened(browser, path, page, width=1200):
    path.write_text(page, encoding="utf-8")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("performance")
    browser.get(path.as_uri())
    return next(iter(browser.find_elements("id", "profile")), None)


def drawn(browser, key):
    return browser.execute_script(
        "return document.getElementById('profile').data.map(trace => trace[arguments[0]])", key
    )


def click_slider(browser, chart, share):
    """Click the rail of the slider so far from its left end."""
    from selenium.webdriver import ActionChains

    browser.execute_script("arguments[0].scrollIntoView()", chart)
    rail = chart.find_element("class name", "slider-rail-touch-rect")
    offset = int((share - 0.5) * (rail.rect["width"] - 30))
    ActionChains(browser).move_to_element_with_offset(rail, offset, 0).click().perform()


def shown_measurement(chart):
    return chart.find_element("class name", "slider-label").text


def assert_nothing_left_and_nothing_failed(browser):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    assert [url for url in requests if url.startswith("file:")]
    assert not [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]
    assert browser.get_log("browser") == []


def test_the_slider_moves_the_profile_and_leaves_the_untrained_one(browser, tmp_path):
    chart = opened(browser, tmp_path / "page.html", html_page({"run": whole_run()}))
    assert drawn(browser, "y") == [[12, 12, 12, 9], [12, 30, 9, 6]]
    assert shown_measurement(chart) == "epoch 2, step 20"
    click_slider(browser, chart, 0)
    assert drawn(browser, "y") == [[12, 12, 12, 9], [12, 22, 10, 7]]
    assert shown_measurement(chart) == "epoch 1, step 10"
    click_slider(browser, chart, 1)
    assert drawn(browser, "y")[1] == [12, 30, 9, 6]
    assert [line["dash"] for line in drawn(browser, "line") if "dash" in line] == ["dash"]
    assert_nothing_left_and_nothing_failed(browser)


def test_pointing_at_a_layer_shows_its_name_width_and_value(browser, tmp_path):
    from selenium.webdriver import ActionChains

    layers = [NASTY[0], NASTY[1], "c" * 200, "d"]
    chart = opened(browser, tmp_path / "page.html", html_page({"a run": whole_run(layers)}))
    browser.execute_script("arguments[0].scrollIntoView()", chart)
    points = chart.find_elements("css selector", ".scatterlayer .trace:last-child .point")
    ActionChains(browser).move_to_element(points[1]).perform()
    label = " ".join(chart.find_element("class name", "hoverlayer").text.split())
    assert '<b>bold</b> & "quoted"' in label
    assert "width 200, relative depth 0.33" in label
    assert "30.00 ± 0.50" in label
    assert "epoch 2, step 20, a run" in label
    assert_nothing_left_and_nothing_failed(browser)


def test_runs_lie_over_each_other_and_keep_their_last_measurement(browser, tmp_path):
    longer = measured(whole_run(), ("fit", 2, 30), [12, 33, 8, 5])
    runs = {"short": whole_run(), "long": longer}
    chart = opened(browser, tmp_path / "page.html", html_page(runs))
    assert drawn(browser, "y")[1::2] == [[12, 30, 9, 6], [12, 33, 8, 5]]
    click_slider(browser, chart, 0)
    assert drawn(browser, "y")[1::2] == [[12, 22, 10, 7]] * 2
    for folded in browser.find_elements("tag name", "summary"):
        folded.click()
    broken = "return [...document.images].filter(image => !image.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    assert_nothing_left_and_nothing_failed(browser)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_on_a_phone_by_day_and_by_night(browser, tmp_path, scheme):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    chart = opened(
        browser, tmp_path / "page.html", html_page({"r": whole_run(NASTY[:4])}), width=400
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    ink = "return getComputedStyle(arguments[0]).fill"
    tick = chart.find_element("css selector", ".xtick text")
    lightness = sum(map(int, re.findall(r"\d+", browser.execute_script(ink, tick))[:3])) / 3
    assert lightness > 200 if scheme == "dark" else lightness < 60
    assert_nothing_left_and_nothing_failed(browser)


@pytest.mark.parametrize("name", ["one validation", "one layer", "no depth", "60 layers"])
def test_a_page_of_little_opens_without_an_error(browser, tmp_path, name):
    chart = opened(browser, tmp_path / "page.html", page_of_little(name))
    assert (chart is None) == (name == "no depth")
    assert_nothing_left_and_nothing_failed(browser)
