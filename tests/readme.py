"""Write the figures of the README from pages and runs that scripts made: `python -m tests.readme`.

The runs in `docs/histories` are the histories of `make mnist` and `make hunchback`.
"""

import io
from collections.abc import Iterator
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_id import History
from lightning_id.figures import moving_profile
from lightning_id.figures._drawing import (
    COLORS,
    UNTRAINED,
    draw_band,
    new_figure,
    style_axes,
    time_norm,
)
from lightning_id.figures.by_depth import finish_depth, label_layers, points
from lightning_id.history.queries import before_training, last_of_fit, profiles
from tests.pages import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
COST = DOCS / "cost.md"
HISTORIES = DOCS / "histories"
RUNS = {"MNIST": HISTORIES / "mnist", "Fashion-MNIST": HISTORIES / "fashion_mnist"}
START, END = "<!-- cost: written by `python -m tests.readme` -->\n", "<!-- end of cost -->\n"
HEAD = ["samples measured", "time of the fit"]
SAMPLES, RATIO = "samples", "1 + parts / without"  # of docs/cost.md


def cost_table(page: str) -> str:
    """Return the added time for each number of samples."""
    first = page.split("\n## ", maxsplit=1)[0]  # of the paper's network, in all layers
    rows = [line.strip("| \n").split(" | ") for line in first.splitlines() if line.startswith("| ")]
    head, _without, *body = rows
    cells = [HEAD, ["---"] * len(HEAD)]
    for row in body:
        added = float(row[head.index(RATIO)]) - 1
        cells.append([row[head.index(SAMPLES)], f"+{added:.1%}"])
    return "".join(f"| {' | '.join(each)} |\n" for each in cells)


def filled(readme: str, cost: str) -> str:
    """Return the README with the table of the cost's page between its two comments."""
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return before + START + cost_table(cost) + END + after


def two_panels(runs: dict[str, History]) -> Figure:
    """Draw the profiles of each run: before training dashed, the last with its band."""
    figure = new_figure(3.4)
    figure.set_size_inches(10, 3.4)
    panels = figure.subplots(1, len(runs), sharey=True)
    for axes, (name, history) in zip(panels, runs.items(), strict=True):
        _draw_profiles(axes, history)
        axes.set_title(name)
    panels[0].set(ylabel="intrinsic dimension (TwoNN)", ylim=(0, 20))
    panels[0].legend(frameon=False, loc="lower left")
    return figure


def _draw_profiles(axes: Axes, history: History) -> None:
    found = profiles(history, "twonn")
    untrained, last = before_training(history), last_of_fit(found)
    assert last is not None
    norm = time_norm([v.step for v in found])
    for validation, records in found.items():
        dashed = validation == untrained
        axes.plot(
            *points(records),
            color=UNTRAINED if dashed else COLORS(norm(validation.step)),
            linestyle="--" if dashed else "-",
            linewidth=2.5 if validation == last else 1.2,
            marker="o",
            markersize=3.5,
            label="untrained" if dashed else "trained" if validation == last else None,
        )
    draw_band(axes, points(found[last])[0], found[last], COLORS(1.0))
    label_layers(axes, found[last])
    finish_depth(axes)
    axes.set_xlabel("relative depth")
    style_axes(axes)


def pictures() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the pictures, from the committed runs."""
    runs = {name: History.load(folder) for name, folder in RUNS.items()}
    file = io.BytesIO()
    two_panels(runs).savefig(file, format="png", dpi=110)
    yield "hunchback.png", file.getvalue()
    yield "hunchback.gif", moving_profile(runs["Fashion-MNIST"])


def main(readme: Path = README, cost: Path = COST, docs: Path = DOCS) -> None:
    """Write the table and the pictures."""
    readme.write_text(filled(readme.read_text(), cost.read_text()))
    for name, content in pictures():
        (docs / name).write_bytes(content)


if __name__ == "__main__":
    main()
