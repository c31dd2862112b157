"""The error bar is that of fresh samples: a small form of examples/calibration.py."""

import pytest

from tests.pages import example


@pytest.fixture(scope="module")
def calibration():
    return example("calibration")


# Over 60 samples the deviation itself is uncertain by 9 %, a coverage of 95 % by 3 %.
@pytest.mark.parametrize("cloud", ["S^2", "5-ball", "S^10"])
def test_standard_errors_equal_the_deviation_over_fresh_samples(calibration, cloud):
    for name, row in calibration.calibrate(cloud, 60, 400).items():
        assert 0.75 < row["ratio"] < 1.35, name
        assert row["coverage"] > 0.85, name


def test_a_mixture_of_dimensions_has_bars_that_are_too_long_not_too_short(calibration):
    for name, row in calibration.calibrate("half 2-d, half 20-d", 40, 400).items():
        assert row["ratio"] > 0.95, name
        assert row["coverage"] > 0.9, name


def test_the_example_prints_and_writes_a_table(calibration, tmp_path, capsys):
    path = tmp_path / "table.md"
    calibration.main(["--samples", "2", "--rows", "50", "--out", str(path)])
    assert path.read_text() in capsys.readouterr().out
    table = [line for line in path.read_text().splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(calibration.CLOUDS) * len(calibration.ESTIMATORS)
    assert all(line.count("|") == 7 for line in table)
