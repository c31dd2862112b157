"""Pages in a real browser: headless Chromium, TensorBoard to look at, and what is drawn in it."""

import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_server
from typing import Any

SCALARS = "tf-scalar-card"  # elements of TensorBoard that hold a chart
CUSTOM_SCALARS = "tf-custom-scalar-multi-line-chart-card, tf-custom-scalar-margin-chart-card"
ONLY_HERE = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # no other name or address is resolved
STARTS_IN = 60  # seconds
DRAWS_IN = 60

# Custom elements nest their content in shadow trees, which a CSS selector does not enter.
_EVERYWHERE = """
    const found = (root, tag) => [...root.querySelectorAll('*')].flatMap(e => [
        ...(e.matches(tag) ? [e] : []), ...(e.shadowRoot ? found(e.shadowRoot, tag) : [])]);
"""
_CHARTS = f"""{_EVERYWHERE}
    const shown = e => e.getBoundingClientRect().width > 0;
    return Object.fromEntries(found(document, arguments[0]).filter(shown).map(card => [
        found(card.shadowRoot, 'tf-card-heading')[0].displayName
            || found(card.shadowRoot, 'tf-card-heading')[0].tag,
        found(card.shadowRoot, 'path.line')
            .map(line => (line.getAttribute('d') || '').split(/[ML]/).length - 1)
            .filter(points => points > 1)]));
"""
_IMAGES = f"""{_EVERYWHERE}
    return Object.fromEntries(found(document, 'tf-image-loader').map(card => [
        found(card.shadowRoot, 'tf-card-heading')[0].tag,
        found(card.shadowRoot, 'img').map(image => image.naturalWidth).filter(w => w > 0)]));
"""


def find_chromium() -> tuple[str, str] | None:
    """Return where Chromium and its driver are, if they are."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@contextmanager
def headless_chromium(width: int = 1200, height: int = 900) -> Iterator[Any]:
    """Start Chromium, without a way to the network, and close it."""
    from selenium import webdriver

    where = find_chromium()
    if where is None:
        raise FileNotFoundError("expected chromium and chromedriver on the PATH, found none")
    options = webdriver.ChromeOptions()
    options.binary_location = where[0]
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--host-resolver-rules={ONLY_HERE}",
        f"--window-size={width},{height}",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--disable-extensions",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(where[1]))
    try:
        yield browser
    finally:
        browser.quit()


@contextmanager
def tensorboard(run: Path) -> Iterator[str]:
    """Start TensorBoard on a run, and stop it. Gives its address."""
    with closing(create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(run)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/data/plugins_listing", process)
        yield address
    finally:
        process.terminate()
        process.wait()


def load(browser: Any, page: Path) -> None:
    """Open a file, and wait for all of it: after another page the driver can return too early."""
    from selenium.webdriver.support.wait import WebDriverWait

    shown = page.resolve().as_uri(), "complete"
    browser.get(shown[0])
    state = "return [location.href, document.readyState]"
    WebDriverWait(browser, DRAWS_IN).until(lambda _: tuple(browser.execute_script(state)) == shown)


def charts(browser: Any, address: str, page: str, n_charts: int) -> dict[str, Any]:
    """Open a page of TensorBoard, and return the points of every line drawn, by title of its chart.

    Args:
        browser: The browser.
        address: Of TensorBoard.
        page: ``"scalars"`` or ``"custom_scalars"``.
        n_charts: How many to wait for.
    """
    _open(browser, address, page)
    cards = {"scalars": SCALARS, "custom_scalars": CUSTOM_SCALARS}[page]
    return _waited(lambda: browser.execute_script(_CHARTS, cards), n_charts)


def images(browser: Any, address: str, n_images: int) -> dict[str, Any]:
    """Open the page of images, and return the width of each in pixels, by its tag."""
    _open(browser, address, "images")
    return _waited(lambda: browser.execute_script(_IMAGES), n_images)


def _open(browser: Any, address: str, page: str) -> None:
    browser.get("about:blank")  # else only what follows the # changes, and nothing is loaded
    browser.get(f"{address}/#{page}&_smoothingWeight=0")


def _waited(look: Any, n: int) -> dict[str, Any]:
    """Look until so many are drawn, or for as long as that may take, and return what there is."""
    end = time.monotonic() + DRAWS_IN
    found: dict[str, Any] = {}
    while time.monotonic() < end:
        found = look()
        if len(found) >= n and all(found.values()):
            break
        time.sleep(0.2)
    time.sleep(1)  # lines fade in
    return found


def _wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + STARTS_IN
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(address).read()
        except urllib.error.URLError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"expected TensorBoard at {address} within {STARTS_IN} s")
