"""Write the figures of the README from pages that scripts made: `python -m tests.readme`."""

from pathlib import Path

from tests.pages import ROOT

README = ROOT / "README.md"
COST = ROOT / "docs" / "cost.md"
START, END = "<!-- cost: written by `python -m tests.readme` -->\n", "<!-- end of cost -->\n"
HEAD = ["samples measured", "time of the fit"]
SAMPLES, RATIO = "samples", "1 + parts / without"  # of docs/cost.md


def cost_table(page: str) -> str:
    """Return the added time for each number of samples."""
    rows = [line.strip("| \n").split(" | ") for line in page.splitlines() if line.startswith("| ")]
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


def main(readme: Path = README, cost: Path = COST) -> None:
    """Write it."""
    readme.write_text(filled(readme.read_text(), cost.read_text()))


if __name__ == "__main__":
    main()
