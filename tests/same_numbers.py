"""Check that a change of the code changes no number of three real runs.

In each of two checkouts, with the folder of MNIST and of the photographs in `LIGHTNING_ID_DATA`:

    python -m tests.same_numbers run FOLDER

and then, in either, `python -m tests.same_numbers compare FOLDER FOLDER`: every column of every
history but the seconds, the logged keys and their values. Exit code 1 where anything differs.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.pages import ROOT

MNIST = ["--trainer.max_epochs", "2"]
RUNS = {
    "mnist": ["fit", "--config", "mnist.yaml", *MNIST],
    "mnist_luminance": [
        *("fit", "--config", "mnist_luminance.yaml", *MNIST),
        *("--data.init_args.n_train", "5000"),
    ],
    "profile": ["profile", "efficientnet_lite0", "--n-samples", "200", "--out", "runs/profile"],
}


def run(folder: Path) -> None:
    """Run the three in `folder`, one after another."""
    data = Path(os.environ["LIGHTNING_ID_DATA"])
    for name, words in RUNS.items():
        here = folder / name
        here.mkdir(parents=True)
        photographs = ["--data", str(data / "imagenet-sample")] if name == "profile" else []
        subprocess.run(
            [sys.executable, "-m", "lightning_id", *words, *photographs],
            cwd=here,
            env=os.environ | {"PYTHONPATH": str(ROOT), "LIGHTNING_ID_DATA": str(data)},
            stdout=(here / "out.txt").open("w"),
            stderr=subprocess.STDOUT,
            check=True,
        )


def numbers(folder: Path) -> dict[str, object]:
    """Return the rows of every history and the curves of every event file, by where they are."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("history*.csv")):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row.pop("seconds", None)
        found[str(path.relative_to(folder))] = rows
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            points = [(event.step, event.value) for event in events.Scalars(tag)]
            found[f"{path.parent.relative_to(folder)}: {tag}"] = points
    return found


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Return a line for everything that only one has, or that differs."""
    lines = [f"only before: {name}" for name in before if name not in after]
    lines += [f"only after: {name}" for name in after if name not in before]
    for name in before.keys() & after.keys():
        a, b = before[name], after[name]
        if a != b:
            where = next(
                (i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), 0
            )
            lines.append(
                f"{name}: {len(a)} and {len(b)} rows, first at {where}: {a[where]} {b[where]}"
            )
    return lines


def main(words: list[str]) -> int:
    """Run, or compare and print."""
    if words[0] == "run":
        run(Path(words[1]))
        return 0
    before, after = map(numbers, map(Path, words[1:]))
    lines = differences(before, after)
    rows = sum(len(value) for name, value in before.items() if name.endswith(".csv"))
    curves = sum(not name.endswith(".csv") for name in before)
    print(*lines, f"{rows} rows and {curves} curves compared, {len(lines)} differences", sep="\n")
    return int(bool(lines) or not rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
