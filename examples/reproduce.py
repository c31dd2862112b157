"""Repeat the experiments of Ansuini et al. (2019) and judge the claims of the paper.

    python examples/reproduce.py                  # all experiments, then docs/reproduction.md
    python examples/reproduce.py mnist_shuffled   # only this one; the others as last run
    python examples/reproduce.py --page           # run nothing, write the page

Unknown arguments are passed to `lightning-id fit`, for example `--data.root=FOLDER`. A trained
network is profiled on the photographs of `--photos FOLDER`, one folder for each class of ImageNet
in their order; by default on `imagenet-sample` in the folder that LIGHTNING_ID_DATA names. A
further experiment is a line in `FITS` with a config of its name, or one in `PROFILES`; a further
claim is one in `reproduction.ansuini2019`.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from lightning_id import History
from lightning_id._checks import version_of
from lightning_id.experiments.sources import ROOT_VARIABLE
from lightning_id.figures import depth_profile, heat_map
from lightning_id.history.queries import has_several_per_epoch
from lightning_id.history.tables import markdown_table
from lightning_id.report.tables import layer_table
from reproduction.ansuini2019 import CLAIMS, IMAGENET
from reproduction.claims import (
    NOT_RUN,
    VERDICTS,
    Claim,
    Judgement,
    Numbers,
    Run,
    at_step,
    judge,
)
from reproduction.published import published

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "pytorch-lightning", "torchvision")
MADE = "reproduce.json"  # how a run was made; without it a run is not finished

FITS = {
    "mnist": "MNIST",
    "mnist_luminance": "MNIST*: a random luminance",
    "mnist_shuffled": "MNIST-dagger: shuffled labels",
    "mnist_dynamics": "Dynamics",
}
PROFILES = {IMAGENET: "EfficientNet-Lite 0, trained on ImageNet"}
EXPERIMENTS = FITS | PROFILES
PROFILED = (
    "> The paper has other networks (of torchvision), and about 500 training images of each"
    " of seven classes; here all classes are measured together. The weights are from a Python"
    " package, and these photographs may be in their training set: the accuracy"
    " above is no test."
)
STEPS = (0, 5, 10, 20, 45, 100, 200, 500, 1000, 2000)  # shown of a run measured between steps

HEAD = """# The claims of Ansuini et al. (2019), reproduced

Made by `python examples/reproduce.py`: the measured numbers are from the runs below, the
published ones are in `examples/reproduction/published.json`, and the rules decide
the verdicts.

{work}. {figures}; of numbers marked "text": {text}.

{verdicts}

`d1` is the last hidden layer. All dimensions are TwoNN by the linear fit of the paper, except for
PCA in the table of claims: the number of components that hold 90 % of the variance of
standardised units. The code of the paper counts them from 0, which is one less.

"""


# --- runs ----------------------------------------------------------------------------------------


def fit(name: str, runs: Path, extra: Sequence[str]) -> None:
    """Run a config in the folder of runs, and note how it was made."""
    config = f"configs/{name}.yaml"
    words = ["fit", "--config", str(ROOT / config), *extra]
    _carry_out(name, runs, words, ["fit", "--config", config, *extra])


def profile(name: str, runs: Path, photos: Path) -> None:
    """Profile a trained network and the same untrained, and note how it was made."""
    estimators = "twonn,pca,ess,pca_standardized,twonn_gaussian"
    options = ["--both", "--estimators", estimators, "--seed", "0"]
    folder = (runs / "runs" / name / f"version_{_next_version(name, runs)}").resolve()
    words = ["profile", name, "--data", str(photos.resolve()), *options, "--out", str(folder)]
    shown = ["profile", name, "--data", f"FOLDER/{photos.name}", *options]
    _carry_out(name, runs, words, shown)


def _carry_out(name: str, runs: Path, words: Sequence[str], shown: Sequence[str]) -> None:
    runs.mkdir(parents=True, exist_ok=True)
    before = _processor_minutes()
    # One thread where none was asked for: two next to other work wait for each other.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    command = [sys.executable, "-m", "lightning_id", *words]
    subprocess.run(command, cwd=runs, env=environment, check=True)
    made = {
        "command": shlex.join(["lightning-id", *shown]),
        "minutes": _processor_minutes() - before,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {package: version_of(package) for package in PACKAGES},
        "threads": environment["OMP_NUM_THREADS"],
    }
    (_versions(name, runs)[-1] / MADE).write_text(json.dumps(made))


def _processor_minutes() -> float:
    # Processor time: other processes of the machine must not count.
    times = os.times()
    return (times.children_user + times.children_system) / 60


def finished(runs: Path) -> dict[str, Run]:
    """Return the last finished run of every experiment that has one."""
    found: dict[str, Run] = {}
    for name in EXPERIMENTS:
        done = [folder for folder in _versions(name, runs) if (folder / MADE).exists()]
        if done:
            found[name] = Run.load(done[-1])
    return found


def _versions(name: str, runs: Path) -> list[Path]:
    return sorted((runs / "runs" / name).glob("version_*"), key=_version)


def _version(folder: Path) -> int:
    return int(folder.name.removeprefix("version_"))


def _next_version(name: str, runs: Path) -> int:
    # After the last, as Lightning counts: one that was removed is not filled in.
    return max(map(_version, _versions(name, runs)), default=-1) + 1


# --- the page ------------------------------------------------------------------------------------


def page(runs: Mapping[str, Run], docs: Path) -> str:
    """Write the pictures and return the page as Markdown."""
    judgements = [judge(claim, runs) for claim in CLAIMS]
    head = HEAD.format(
        verdicts="\n".join(f"- **{verdict}**: {rule}" for verdict, rule in VERDICTS.items()),
        **published()["source"],
    )
    sections = [section(name, run, docs) for name, run in runs.items()]
    return "\n".join([head + claims_table(judgements), *sections])


def claims_table(judgements: Iterable[Judgement]) -> str:
    """Return one row per claim."""
    rows = [["claim", "in the paper", "published", "measured", "rule", "verdict"]]
    for judgement in judgements:
        claim = judgement.claim
        verdict = f"**{judgement.verdict}**"
        if judgement.verdict == NOT_RUN:
            verdict += f": {judgement.reason}"
        rows.append(
            [
                claim.text,
                claim.where,
                numbers_text(claim.published, claim),
                numbers_text(judgement.measured, claim),
                claim.rule() or "-",
                verdict,
            ]
        )
    return markdown_table(rows, "---") + "\n"


def numbers_text(numbers: Numbers, claim: Claim) -> str:
    """Return named numbers as one cell."""
    return ", ".join(f"{name} {value:{claim.form}}" for name, value in numbers.items()) or "-"


def section(name: str, run: Run, docs: Path) -> str:
    """Return the results of an experiment, with its figures."""
    made = json.loads((run.folder / MADE).read_text())
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    parts = [
        f"## {EXPERIMENTS[name]}",
        f"`{made['command']}`, {made['date']}, {made['minutes']:.1f} minutes of processor time"
        f" (threads: {made['threads']}), {how(name, run)}; {versions}.",
        PROFILED if name in PROFILES else quoted_head(ROOT / "configs" / f"{name}.yaml"),
    ]
    split = "" if name in PROFILES else "test "
    histories = {split: run.history} | ({"training ": run.train} if run.train else {})
    for images, history in histories.items():
        picture = docs / f"reproduction_{name}{'_train' * (history is run.train)}.png"
        draw = heat_map if has_several_per_epoch(history.validations()) else depth_profile
        draw(history).savefig(picture, dpi=90)
        caption = f"{EXPERIMENTS[name]}, {images}images"
        count = max(record["n_samples"] for record in history.records)
        parts += [
            f"![{caption}]({picture.name})",
            f"On {count} {images}images:",
            dimensions(history),
        ]
    return "\n\n".join(parts)


def how(name: str, run: Run) -> str:
    """Return the seed of a run; of a profile, whose command names it, the accuracy."""
    if name in PROFILES:
        return ", ".join(
            f"accuracy {m['value']:.1%} ({m['stage'].replace('_', ' ')})"
            for m in run.history.metrics
        )
    return f"seed {yaml.safe_load((run.folder / 'config.yaml').read_text())['seed_everything']}"


def quoted_head(config: Path) -> str:
    """Return the comment at the head of a config: its purpose, and departures from the work."""
    lines = config.read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    text = [line.removeprefix("#").removeprefix(" ") for line in lines[:end]]
    return "\n".join(f"> {line}".rstrip() for line in text)


def dimensions(history: History) -> str:
    """Return the dimensions layer by layer, and before by step if measured between steps."""
    validations, by_layer = history.validations(), markdown_table(layer_table(history)) + "\n"
    if not has_several_per_epoch(validations):
        return by_layer
    measured = [step for _, _, step in validations]
    shown = [step for step in measured if step in {*STEPS, measured[-1]}]
    profiles = {step: at_step(history, step) for step in shown}
    rows = [["steps", *profiles[shown[0]]]]
    rows += [[str(step), *(f"{v:.2f}" for v in ids.values())] for step, ids in profiles.items()]
    return f"{markdown_table(rows)}\n\nAt the last of these steps:\n\n{by_layer}"


def main(arguments: list[str] | None = None) -> None:
    """Run experiments and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXPERIMENTS)}; none for all")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page")
    parser.add_argument("--runs", type=Path, default=Path(), help="folder in which runs/ is")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the page goes")
    photos = (
        Path(os.environ[ROOT_VARIABLE], "imagenet-sample") if ROOT_VARIABLE in os.environ else None
    )
    parser.add_argument("--photos", type=Path, default=photos, help="for the trained network")
    options, extra = parser.parse_known_args(arguments)
    unknown = [name for name in options.names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"expected names of {list(EXPERIMENTS)}, got {unknown}")
    for name in [] if options.page else options.names or EXPERIMENTS:
        if name in PROFILES and (options.photos is None or not options.photos.is_dir()):
            print(f"{name} needs photographs, got {options.photos}: name their folder by --photos")
            continue
        try:
            if name in PROFILES:
                profile(name, options.runs, options.photos)
            else:
                fit(name, options.runs, extra)
        except subprocess.CalledProcessError as error:
            print(f"{name} failed with exit status {error.returncode}: the page goes without it")
    options.docs.mkdir(parents=True, exist_ok=True)
    path = options.docs / "reproduction.md"
    path.write_text(page(finished(options.runs), options.docs))
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
