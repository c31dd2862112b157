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
    clouds = [row for row in rows if row[1] in ("normal", "torus")]
    found = {(row[1], int(row[0])): [float(v) for v in row[2:]] for row in clouds}
    dimensions = {d for _, d in found}
    for d in (d for d in dimensions if d >= 10):
        *twonn, ess = found["normal", d]
        assert max(twonn) < d
        assert ess == pytest.approx(d, rel=0.04)
    *twonn, ess = found["torus", 20]
    assert min(twonn) > 20
    assert 36 < ess < 42
