"""Write the figures of the README from pages that scripts made: `python -m tests.readme`."""

from pathlib import Path

from tests.pages import ROOT

README = ROOT / "README.md"
COST = ROOT / "docs" / "cost.md"
START, END = "<!-- cost: written by `python -m tests.readme` -->\n", "<!-- end of cost -->\n"
COLUMNS = {  # of docs/cost.md, and what the README calls them
    "samples": "samples measured",
    "1 + parts / without": "time of the fit, with / without the callback",
    "GiB of rows": "memory of the rows, GiB",
}


def cost_table(page: str) -> str:
    """Return the columns of the cost's table that the README shows."""
    rows = [line.strip("| \n").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    head, *body = rows
    places = [head.index(name) for name in COLUMNS]
    shown = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    shown += [[row[place] for place in places] for row in body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in shown)


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
