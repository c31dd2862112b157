"""Invalid configurations are reported before the first training, and name it."""

import sys

import pytest
import torch

from lightning_id.study.runs import prepare_study
from tests.study.helpers import write

WIDTH, SEED = "model.init_args.width", "seed_everything"


def prepare(grid, **others):
    return prepare_study(write(grid, **others), None, "local", None, None)


def test_a_valid_study_is_prepared_without_instantiating_anything():
    state, path = torch.get_rng_state(), list(sys.path)
    runs = prepare({WIDTH: [8, 16], SEED: [0]})
    assert [row["reason"] for row in runs.rows()] == ["not run yet"] * 2
    assert torch.equal(torch.get_rng_state(), state)
    assert sys.path == path


@pytest.mark.parametrize(
    ("grid", "others", "message"),
    [
        ({WIDTH: [8, "wide"]}, {}, f"{WIDTH} wide: .*width"),
        ({"model.init_args.widht": [8]}, {}, "widht 8: .*widht"),
        ({"trainer.max_epoch": [1]}, {}, "max_epoch 1: .*max_epoch"),
        ({"model.class_path": ["mine.Nett"]}, {}, "mine.Nett: "),
        ({WIDTH: [8]}, {"callback": {"n_sample": 9}}, "`callback`: .*n_sample"),
        ({WIDTH: [8]}, {"callback": {"n_samples": "many"}}, "`callback`: .*n_samples"),
        ({WIDTH: [8]}, {"cli": "mine:Net"}, "`cli`: expected module:Class of a LightningCLI"),
        ({WIDTH: [8]}, {"cli": "mien:MyCLI"}, "`cli`: expected a module to import, got 'mien'"),
        ({WIDTH: [8]}, {"groups": {"a": ["depth"]}}, "`groups`: .* some of width, got 'depth'"),
    ],
)
def test_an_invalid_configuration_names_its_training(grid, others, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        prepare(grid, **others)


def test_a_command_line_of_ones_own_parses_its_own_keys():
    base = {"trainer": {"max_epochs": 1}}
    prepare({"model.width": [8], "scale": [1, 2.5]}, base=base, cli="mine:MyCLI")
    with pytest.raises(ValueError, match="scale wide"):
        prepare({"scale": ["wide"]}, base=base, cli="mine:MyCLI")
