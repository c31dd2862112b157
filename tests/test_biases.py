"""The page on biases is made by its script: a small form of it."""

import pytest

from tests.pages import ROOT, example


@pytest.fixture(scope="module")
def biases():
    return example("biases")


def test_the_example_prints_and_writes_a_table_for_each_bias(biases, tmp_path, capsys):
    path = tmp_path / "page.md"
    biases.main(["--samples", "1", "--rows", "150", "--out", str(path)])
    assert path.read_text() in capsys.readouterr().out
    assert path.read_text().count("\n|---|") == len(biases.SECTIONS) == len(biases.TABLES)


def test_what_the_headings_say_holds_for_the_numbers_of_the_page(biases):
    page = (ROOT / "docs" / "biases.md").read_text()
    assert all(section in page for section in biases.SECTIONS.values())
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    normal = {int(row[0]): [float(v) for v in row[2:]] for row in rows if row[1] == "normal"}
    assert all(max(values) < d for d, values in normal.items() if d >= 10)
    assert all(float(row[-1]) > 20 for row in rows if row[:2] == ["20", "torus"])
