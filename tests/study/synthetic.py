"""Synthetic tables of studies, whose relations are known."""

import random


def table(relate, noises=(0.0, 0.2, 0.5), cells=8, seeds=3, chance=0):
    """Return rows whose dimension and test error `relate` gives.

    It is given the label noise, two numbers of the cell and two of the run, drawn from [-1, 1].
    """
    draw = random.Random(chance)
    rows = []
    for noise in noises:
        for cell in range(cells):
            of_cell = [draw.uniform(-1, 1) for _ in range(2)]
            for seed in range(seeds):
                of_run = [draw.uniform(-1, 1) for _ in range(2)]
                dimension, error = relate(noise, *of_cell, *of_run)
                settings = {"label_noise": noise, "n_train": 1000 + cell, "seed": seed, "width": 1}
                numbers = {"id_train": dimension, "id_test": dimension, "error": error}
                rows.append({"run": f"{noise} {cell} {seed}", **settings, **numbers})
    return rows


SETTINGS = ["label_noise", "n_train", "width", "seed"]
GROUPS = {"label noise": ["label_noise"], "architecture": ["width"]}
