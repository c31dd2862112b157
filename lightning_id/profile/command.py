"""Measure networks from the command line: the body of `lightning-id profile`."""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import get_args

from lightning_id.figures import depth_profile
from lightning_id.functional import ESTIMATORS, get_estimator
from lightning_id.history import RECORDS_FILE, History
from lightning_id.history.tables import end_table
from lightning_id.profile.images import choose_images
from lightning_id.profile.networks import find_code
from lightning_id.profile.run import Settings, accuracies, profile
from lightning_id.profile.text import profile_text, read_text
from lightning_id.recording.rule import Reduce
from lightning_id.report import write_report
from lightning_id.report.findings import findings

OUT = Path("runs/profile")
PICTURE = "profile.png"

Compare = Callable[[Mapping[str, History], Path], str]  # writes into a folder, returns text

MODEL_AND_DATA = """\
MODEL  a name of torchvision or timm, efficientnet_lite0 to 2, module:function or module:Class
       that makes a network, a Lightning checkpoint *.ckpt, or a folder that an earlier profile
       was written to, which is read and not measured again
DATA   a folder with one folder of images per class, a folder of images, NAME:FOLDER with a data
       set of torchvision (its test split), or a .npy file of inputs (n, ...), where whole
       numbers are token ids and uint8 is pixels
TEXT   in place of DATA: a file of lines of text, for a MODEL that is a folder of save_pretrained
       with its tokenizer, or a name of a hub
"""
_PROFILE = f"""\
Measure the intrinsic dimension of every layer of a network on images; several are compared.

{MODEL_AND_DATA}
Example: lightning-id profile resnet18 --data photos --both
"""


def main(args: Sequence[str], compare: Compare) -> None:
    """Run `lightning-id profile`; `compare` writes and returns a comparison of several networks."""
    parser = arguments("profile", _PROFILE)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a network, or several")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"default: {OUT}/MODEL")
    parser.add_argument("--text", type=Path, metavar="TEXT", help="the lines")
    shuffles = "shuffle the words of each line, as a control"
    parser.add_argument("--shuffle-words", action="store_true", help=shuffles)
    run(parser, args, OUT, compare)


def run(
    parser: argparse.ArgumentParser,
    args: Sequence[str],
    default_out: Path,
    compare: Compare,
    always_compares: bool = False,
) -> None:
    """Parse the arguments and measure; wrong ones end the program with the usage."""
    options = parser.parse_args(args)
    # As `python -m` does: module:function may be a file of the current folder.
    sys.path.insert(0, str(Path.cwd()))
    try:
        _run(options, default_out, compare, always_compares)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        parser.error(str(error))


def _run(
    options: argparse.Namespace, default_out: Path, compare: Compare, always_compares: bool
) -> None:
    is_compared = always_compares or len(options.models) > 1
    out = options.out or default_out
    if options.checkpoint is not None and len(options.models) > 1:
        raise ValueError("`--checkpoint`: expected one MODEL to load it into, got several")
    if always_compares and "twonn" not in options.estimators:
        raise ValueError(
            "`--estimators`: expected twonn among them, which is compared with the error, got"
            f" {','.join(options.estimators)}"
        )
    folders: dict[str, Path] = {}
    histories: dict[str, History] = {}
    for model in options.models:
        is_measured = Path(model, RECORDS_FILE).exists()
        name = Path(model).resolve().name if is_measured else model
        if name in folders:
            raise ValueError(f"`MODEL`: expected every network once, got {name} again")
        if is_measured:
            folders[name], histories[name] = Path(model), _load(Path(model))
        elif options.out and not is_compared:
            folders[name] = out
        else:  # the untrained network has a folder of its own
            file_name = re.sub(r"[^\w.-]+", "-", model).strip("-.")
            folders[name] = out / (file_name + "-untrained" * (options.weights == "untrained"))
    missing = {name: folder for name, folder in folders.items() if name not in histories}
    if options.checkpoint is not None and not missing:
        raise ValueError("`--checkpoint`: expected a network to load it into, got its profile")
    for model in missing:
        find_code(model)  # its import may register estimators
    for name in options.estimators:
        get_estimator(name)  # a wrong name is an error before any image is read
    if missing:
        histories |= _measure(missing, options)
    if is_compared:
        out.mkdir(parents=True, exist_ok=True)
        _print(f"\n{compare({name: histories[name] for name in folders}, out)}")
    (*_, last) = folders.values()
    page = (out if is_compared or options.out else last) / "report.html"
    _print(f"Page:                     {write_report(list(folders.values()), page)}")


def _load(folder: Path) -> History:
    """Read an earlier profile; one without records is an error."""
    history = History.load(folder)
    if not history.records:
        raise ValueError(f"`MODEL`: expected records in {folder}, got none; profile it again")
    return history


def _measure(folders: Mapping[str, Path], options: argparse.Namespace) -> dict[str, History]:
    """Measure networks, each with its table and its files as soon as it is done."""
    text = getattr(options, "text", None)
    options.reduce = options.reduce or ("flatten" if text is None else "mean")
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    if text is not None:
        _check_text(options)
        lines = read_text(text, options.n_samples, options.seed, options.shuffle_words)
        notes, measure = lines.notes, partial(profile_text, text=lines)
    elif options.data is not None:
        images = choose_images(options.data, options.n_samples, options.seed)
        notes = images.notes
        measure = partial(profile, images=images, checkpoint=options.checkpoint)
    else:
        raise ValueError(f"`--data`: expected images to measure {', '.join(folders)} on, got none")
    for note in notes:
        _print(note)
    histories = {}
    for model, folder in folders.items():
        history = measure(model, settings=settings, weights=options.weights)
        if not history.records:
            raise ValueError(f"nothing was measured of {model}; see the warnings above")
        _save(model, history, folder, options.estimators)
        histories[model] = history
    return histories


def _check_text(options: argparse.Namespace) -> None:
    """Raise for options that only images have."""
    given = {"--data": options.data, "--checkpoint": options.checkpoint}
    given |= {"--per-class": options.per_class or None, "--image-size": options.image_size}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"`{name}`: expected none with --text, got {value}")


def _save(model: str, history: History, folder: Path, estimators: Sequence[str]) -> None:
    history.save(folder)
    depth_profile(history, estimators[0]).savefig(folder / PICTURE)
    accuracy = ", ".join(f"accuracy {share:.1%} ({stage})" for stage, share in accuracies(history))
    found = "\n".join(f"{topic}: {text}" for topic, text in findings(history))
    _print(
        f"\n{model}: {accuracy or 'no accuracy: no labels, or none of its outputs'}"
        f"\n\n{end_table(history, estimators)}\n\n{found}\n\n"
        f"Dimension against depth:  {folder / PICTURE}\n"
        f"All records:              {folder / RECORDS_FILE}"
    )


def arguments(command: str, description: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all commands on networks share."""
    parser = argparse.ArgumentParser(
        prog=f"lightning-id {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="DATA", help="the images")
    add("--checkpoint", metavar="FILE", help="weights for MODEL, in place of its own")
    weights = parser.add_mutually_exclusive_group().add_argument
    choices = {
        "untrained": "random weights instead of the trained ones",
        "both": "the network with random weights too, as the network before training",
    }
    for choice, text in choices.items():
        weights(f"--{choice}", dest="weights", action="store_const", const=choice, help=text)
    parser.set_defaults(weights="trained")
    add("--n-samples", type=int, default=2000, metavar="N", help="images; default: 2000")
    add("--seed", type=int, default=0, help="of the choice of images and of random weights")
    add("--layers", type=_words, default=["auto"], metavar="NAME,...", help="names, globs; or auto")
    estimators = (
        f"of {', '.join(ESTIMATORS)}, or registered by MODEL on import; default: twonn,pca;"
        " twonn,pca,twonn_gaussian sets curved against linear"
    )
    default = ["twonn", "pca"]
    add("--estimators", type=_words, default=default, metavar="NAME,...", help=estimators)
    add("--reduce", choices=get_args(Reduce), help="default: flatten; mean for text")
    add("--image-size", type=int, metavar="PIXELS", help="default: the size MODEL was trained on")
    add("--batch-size", type=int, default=32, metavar="N", help="default: 32")
    per_class = "measure each class that has N images too; default: 100"
    add("--per-class", type=int, nargs="?", const=True, default=False, metavar="N", help=per_class)
    limit = "of rows in memory, more go to a temporary file; default: 4"
    add("--memory-limit", type=float, default=4, metavar="GIB", help=limit)
    return parser


def _words(text: str) -> list[str]:
    return text.split(",")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
