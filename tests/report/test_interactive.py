"""The page in a real browser."""

import json
import re

import pytest

from lightning_id import History
from lightning_id.functional.law import LAW_NOTE
from lightning_id.report.page import html_page
from tests.browser import find_chromium, headless_chromium, load
from tests.report.histories import LAST, NASTY, measured, page_of_little, whole_run
from tests.study.helpers import wait_until


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
    load(browser, path)
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
    click_slider(browser, chart, 0.5)
    wait_until(lambda: drawn(browser, "y") == [[12, 12, 12, 9], [12, 22, 10, 7]], seconds=30)
    assert shown_measurement(chart) == "epoch 1, step 10"
    click_slider(browser, chart, 0)
    wait_until(lambda: drawn(browser, "y") == [[12, 12, 12, 9]] * 2, seconds=30)
    assert shown_measurement(chart) == "before training"
    click_slider(browser, chart, 1)
    wait_until(lambda: drawn(browser, "y")[1] == [12, 30, 9, 6], seconds=30)
    assert [line["dash"] for line in drawn(browser, "line") if "dash" in line] == ["dash"]
    assert_nothing_left_and_nothing_failed(browser)


def test_values_off_the_law_are_hollow_at_their_measurement(browser, tmp_path):
    history = whole_run()
    (record,) = (r for r in history.at(LAST, "twonn") if r["value"] == 30)
    record["note"] = f"10 duplicates; {LAW_NOTE}"
    chart = opened(browser, tmp_path / "page.html", html_page({"run": history}))
    filled = ["circle"] * 4
    hollow = ["circle", "circle-open", "circle", "circle"]
    assert [each["symbol"] for each in drawn(browser, "marker")] == [filled, hollow]
    click_slider(browser, chart, 0)
    wait_until(lambda: drawn(browser, "marker")[1]["symbol"] == filled, seconds=30)
    click_slider(browser, chart, 1)
    wait_until(lambda: drawn(browser, "marker")[1]["symbol"] == hollow, seconds=30)
    assert len({each["color"] for each in drawn(browser, "marker")}) == 1
    assert_nothing_left_and_nothing_failed(browser)


def test_play_goes_through_all_measurements_and_shows_the_accuracy_of_each(browser, tmp_path):
    history = whole_run()
    for metric, value in zip(history.metrics, [0.1, 0.7, 0.8], strict=True):
        metric["value"] = value
    chart = opened(browser, tmp_path / "page.html", html_page({"run": history}))
    browser.execute_script(
        "window.seen = [];"
        "arguments[0].on('plotly_animatingframe', () => setTimeout(() => {"
        "const point = document.getElementById('metric').data.at(-1);"
        "window.seen.push([point.x[0], point.y[0], point.text[0]])}, 100))",
        chart,
    )
    play = browser.find_element("id", "play")
    play.click()
    assert play.text == "Pause"
    wait_until(lambda: play.text == "Play", seconds=30)
    wait_until(lambda: len(browser.execute_script("return window.seen")) == 3, seconds=30)
    assert browser.execute_script("return window.seen") == [
        [0, 0.1, "0.1"],
        [1, 0.7, "0.7"],
        [2, 0.8, "0.8"],
    ]
    assert shown_measurement(chart) == "epoch 2, step 20"
    assert_nothing_left_and_nothing_failed(browser)


def test_layers_stand_at_their_depth_or_evenly_with_their_names(browser, tmp_path):
    layers = ["net.conv1", "net.pool1", "net.fc"]
    history = History()
    measured(history, ("fit", 0, 1), [5, 6, 4], layers=layers)
    for record, depth in zip(history.records, [0.0, 0.0, 1.0], strict=True):
        record["depth"] = depth
    chart = opened(browser, tmp_path / "page.html", html_page({"run": history}))

    def names():
        return [tick.text for tick in chart.find_elements("css selector", ".xtick text")]

    assert drawn(browser, "x")[1] == [0, 0, 1]
    assert names() == ["conv1, pool1", "fc"]
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", "spacing")).select_by_value("even")
    wait_until(lambda: drawn(browser, "x")[1] == [0, 0.5, 1], seconds=30)
    assert names() == ["conv1", "pool1", "fc"]


def test_profile_and_accuracy_are_side_by_side_and_the_findings_below(browser, tmp_path):
    for width, is_wide in ((1200, True), (400, False)):
        opened(browser, tmp_path / "page.html", html_page({"run": whole_run()}), width)
        profile, metric = (browser.find_element("id", name).rect for name in ("profile", "metric"))
        findings = browser.find_element("tag name", "h2")
        assert findings.text == "Findings"
        assert (metric["x"] > profile["x"] + profile["width"]) == is_wide
        assert findings.rect["y"] > max(chart["y"] + chart["height"] for chart in (profile, metric))
        if is_wide:
            assert findings.rect["y"] < 750  # of 900


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
    assert "30.00 ± 0.98" in label
    assert "epoch 2, step 20, a run" in label
    assert_nothing_left_and_nothing_failed(browser)


def test_runs_lie_over_each_other_and_keep_their_last_measurement(browser, tmp_path):
    longer = measured(whole_run(), ("fit", 2, 30), [12, 33, 8, 5])
    runs = {"short": whole_run(), "long": longer}
    chart = opened(browser, tmp_path / "page.html", html_page(runs))
    assert drawn(browser, "y")[1::2] == [[12, 30, 9, 6], [12, 33, 8, 5]]
    click_slider(browser, chart, 1 / 3)
    wait_until(lambda: drawn(browser, "y")[1::2] == [[12, 22, 10, 7]] * 2, seconds=30)
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
