"""Look at a finished run in TensorBoard and at its report, and take the pictures of the README.

    python -m tests.screenshots runs/mnist/version_0 --out docs

In headless Chromium, which must be installed with chromedriver. Fails where nothing is drawn.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_id.report import write_report
from tests.browser import charts, headless_chromium, images, load, tensorboard

ID_CHARTS = 8  # id/last_hidden and its ends, id/peak and its depth and ratio, id/twonn, id/pca
PAGE_CHARTS = 5  # TwoNN, PCA, last hidden layer, and loss and accuracy
IMAGES = 3  # depth profile, layers over time and heat map


def look(run: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Open every page, keep a picture of it, and return what is drawn there.

    Args:
        run: Folder of a finished run.
        out: Where the pictures go.
    """
    drawn = {}
    with tensorboard(run) as address, headless_chromium(1200, 1100) as browser:
        for page, find in {
            "scalars": lambda: charts(browser, address, "scalars", ID_CHARTS),
            "custom_scalars": lambda: charts(browser, address, "custom_scalars", PAGE_CHARTS),
            "images": lambda: images(browser, address, IMAGES),
        }.items():
            drawn[page] = find()
            browser.save_screenshot(str(out / f"tensorboard_{page}.png"))
        report = write_report([run], out / "report.tmp.html")
        load(browser, report)
        labels = browser.find_elements("css selector", "#profile .xtick")
        drawn["report"] = {"layers": [label.text for label in labels]}
        browser.save_screenshot(str(out / "report.png"))
        report.unlink()
    return drawn


def say(drawn: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what `look` found, and exit where something is not drawn."""
    for page, found in drawn.items():
        sys.stdout.write(f"{page}: {found}\n")
        if not found or not all(found.values()):
            sys.exit(f"{page}: not everything is drawn")


def main() -> None:
    """Look at a run, and say what is drawn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    say(look(options.run, options.out))


if __name__ == "__main__":
    main()
