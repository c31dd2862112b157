"""The grid: its trainings, their names, and errors in the YAML before any of them."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from lightning_id.study.grid import load_study, setting_keys, trainings_of
from lightning_id.study.table import short_names
from tests.study.helpers import content

CONFIGS = Path(__file__).parents[2] / "configs"
WIDTH, LR, SEED = "model.init_args.width", "model.init_args.lr", "seed_everything"


def trainings(grid, **others):
    return trainings_of(load_study(content(grid, **others)))


def test_the_product_of_the_lists_is_trained():
    found = trainings({WIDTH: [1, 2], LR: 0.1, SEED: [3, 4]})
    assert [list(each.settings.values()) for each in found] == [
        [1, 0.1, 3],
        [1, 0.1, 4],
        [2, 0.1, 3],
        [2, 0.1, 4],
    ]
    assert found[3].config["model"] == {
        "class_path": "mine.Net",
        "init_args": {"width": 2, "lr": 0.1},
    }
    assert found[3].config["seed_everything"] == 4


def test_the_base_is_left_as_it_was():
    base = {"model": {"class_path": "a.B", "init_args": {"width": 9}}}
    trainings({WIDTH: [1, 2]}, base=base)
    assert base == {"model": {"class_path": "a.B", "init_args": {"width": 9}}}


def test_an_extra_cell_has_fixed_values_and_the_seeds_of_the_grid():
    found = trainings({WIDTH: 1, SEED: [5, 6]}, fixed={LR: 7}, extra=[{LR: 2}, {LR: 3, SEED: 9}])
    assert [(t.value(WIDTH), t.value(LR), t.value(SEED)) for t in found] == [
        (1, 7, 5),
        (1, 7, 6),
        (None, 2, 5),
        (None, 2, 6),
        (None, 3, 9),
    ]


def test_keys_with_a_comma_share_their_values():
    (one, two) = trainings({f"{SEED}, data.init_args.seed": [1, 2]})
    assert (two.value(SEED), two.value("data.init_args.seed")) == (2, 2)
    assert one.cell == two.cell


def test_a_class_in_its_short_form_and_an_item_of_a_list_can_be_varied():
    base = {"model": "a.B", "trainer": {"callbacks": [{"class_path": "c.D"}]}}
    (found,) = trainings({WIDTH: 3, "trainer.callbacks.0.init_args.patience": 4}, base=base)
    assert found.config["model"] == {"class_path": "a.B", "init_args": {"width": 3}}
    assert found.config["trainer"]["callbacks"][0]["init_args"] == {"patience": 4}


def test_a_setting_that_is_a_class_becomes_a_column_for_each_argument():
    nets = [{"class_path": "a.Conv", "init_args": {"depth": 2}}, {"class_path": "a.Dense"}]
    found = trainings({"model.init_args.net": nets, SEED: [0]})
    keys = setting_keys(found)
    assert list(short_names(keys).values()) == ["net", "depth", "seed"]
    assert [[each.value(key) for key in keys] for each in found] == [
        ["a.Conv", 2, 0],
        ["a.Dense", None, 0],
    ]
    assert found[0].label == "model.init_args.net Conv(depth=2), seed_everything 0"


def test_a_training_that_is_named_twice_is_one():
    assert len(trainings({WIDTH: [1, 1, 2]}, extra=[{WIDTH: 2}])) == 2


def test_trainings_that_differ_in_the_seed_alone_are_one_cell():
    found = trainings({WIDTH: [1, 2], SEED: [0, 1, 2]})
    assert len({each.identity for each in found}) == 6
    assert sorted(Counter(each.cell for each in found).values()) == [3, 3]


def test_a_name_depends_on_configuration_callback_and_command_line_alone():
    (first,) = trainings({WIDTH: 1})
    assert first.identity == "".join(trainings({WIDTH: 1}, predictors=["peak"])[0].identity)
    for others in ({"fixed": {LR: 1}}, {"cli": "mine:MyCLI"}, {"callback": {"n_samples": 80}}):
        assert trainings({WIDTH: 1}, **others)[0].identity != first.identity


def test_numbers_are_read_as_by_lightning(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {class_path: a.B, init_args: {lr: 1e-3}}")
    path = tmp_path / "study.yaml"
    path.write_text("{base: base.yaml, grid: {seed_everything: 1}, outcome: {error: x}}")
    (found,) = trainings_of(load_study(path))
    assert found.value(LR) == 0.001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gird": {}}, "expected base, .*, got 'gird'. Close: 'grid'."),
        ({"grid": [1]}, "grid"),
        ({"outcome": {}}, "error"),
        ({"outcome": {"error": "x", "gap": "y"}}, "gap"),
        ({"resources": {"cpus": 0}}, "cpus"),
        ({"grid": {}}, "`grid`: expected keys with values to train with, got none"),
        ({"grid": {WIDTH: []}}, f"`{WIDTH}`: expected at least one value, got an empty list"),
        ({"grid": {"trainer.max_epochs.x": 1}}, "expected a mapping above its last part, got 1"),
        ({"base": "nowhere.yaml"}, "Expected a YAML file, got 'nowhere.yaml': no such file"),
    ],
)
def test_an_error_in_the_yaml_names_its_place(change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        trainings_of(load_study(content({WIDTH: 1}) | change))


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("grid: [")
    with pytest.raises(ValueError, match=r"wrong.yaml: expected YAML in"):
        load_study(path)
    path.write_text("- grid")
    with pytest.raises(ValueError, match=r"wrong.yaml: expected the keys of a study, got"):
        load_study(path)


def test_the_mnist_study_has_three_seeds_in_each_of_24_cells():
    found = trainings_of(load_study(CONFIGS / "study_mnist.yaml"))
    assert list(Counter(each.cell for each in found).values()) == [3] * 24
    assert list(short_names(setting_keys(found)).values()) == [
        "width",
        "n_train",
        "label_noise",
        "seed",
        "depth",
        "dropout",
        "weight_decay",
    ]
    seeds = {(t.value("seed_everything"), t.value("data.init_args.data_seed")) for t in found}
    assert seeds == {(0, 0), (1, 1), (2, 2)}
    given = yaml.safe_load((CONFIGS / "study_mnist.yaml").read_text())
    assert given["callback"]["n_samples"] == 1000


@pytest.mark.parametrize("name", ["study_mnist", "study_architectures"])
def test_the_navigation_names_the_page_of_a_study_by_its_title(name):
    title = load_study(CONFIGS / f"{name}.yaml").title
    navigation = (CONFIGS.parent / "mkdocs.yml").read_text()
    assert title
    assert f"- {title}: {name}.md" in navigation
