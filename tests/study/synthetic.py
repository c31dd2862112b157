"""Made tables of studies: what goes with what in them is known."""

import random

from lightning_id.study.grid import Settings
from lightning_id.study.runs import NOTES, RESULTS


def row(settings, **results):
    """Return the row of a training with the given results."""
    return {
        "run": settings.identity,
        "cell": settings.cell,
        **vars(settings),
        **dict.fromkeys(RESULTS, 0.5),
        **dict.fromkeys(NOTES),
        "date": "2026-01-01",
        "versions": "torch 9",
        **results,
    }


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
                settings = Settings(label_noise=noise, n_train=1000 + cell, seed=seed)
                numbers = {"id_train": dimension, "id_test": dimension, "test_error": error}
                rows.append(row(settings, **numbers))
    return rows
