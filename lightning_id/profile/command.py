"""The subcommands `lightning-id profile` and `lightning-id study pretrained`."""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import get_args

from lightning_id.experiments.reproduction.pretrained import (
    accuracies,
    compare,
    comparison_figure,
    comparison_text,
    write_comparison,
)
from lightning_id.figures import depth_profile
from lightning_id.functional import ESTIMATORS, get_estimator
from lightning_id.history import RECORDS_FILE, History
from lightning_id.history.tables import end_table
from lightning_id.profile.images import choose_pictures
from lightning_id.profile.networks import LITE, find_code
from lightning_id.profile.run import Settings, profile
from lightning_id.report import write_report
from lightning_id.report.findings import findings
from lightning_id.rows import Reduce

OUT = Path("runs/profile")
OUT_OF_STUDY = Path("runs/pretrained")
PICTURE = "profile.png"

_WHAT = """\
MODEL  a name of torchvision or timm, efficientnet_lite0 to 2, module:function or module:Class
       that makes a network, a Lightning checkpoint *.ckpt, or a folder that an earlier profile
       was written to, which is read and not measured again
DATA   a folder with one folder of images per class, a folder of images, NAME:FOLDER with a data
       set of torchvision (its test split), or a .npy file of inputs (n, ...), where whole
       numbers are token ids and uint8 is pixels
"""
_PROFILE = f"""\
Measure the intrinsic dimension of every layer of a network on images; several are compared.

{_WHAT}
Example: lightning-id profile resnet18 --data photos --both
"""
_STUDY = f"""\
Tell whether the dimension of the last hidden layer goes with the error, over trained networks.

{_WHAT}
Example: lightning-id study pretrained resnet18 resnet50 runs/profile/vgg16 --data photos
"""


def main(args: Sequence[str]) -> None:
    """Run `lightning-id profile`.

    Args:
        args: What follows it.
    """
    parser = _parser("profile", _PROFILE)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a network, or several")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"default: {OUT}/MODEL")
    parser.set_defaults(is_study=False, default_out=OUT)
    _answer(parser, args)


def study_pretrained(args: Sequence[str]) -> None:
    """Run `lightning-id study pretrained`.

    Args:
        args: What follows it.
    """
    parser = _parser("study pretrained", _STUDY)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=list(LITE),
        help=f"networks; default: {' '.join(LITE)}")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"default: {OUT_OF_STUDY}")
    parser.set_defaults(is_study=True, default_out=OUT_OF_STUDY)
    _answer(parser, args)


def _answer(parser: argparse.ArgumentParser, args: Sequence[str]) -> None:
    options = parser.parse_args(args)
    # As `python -m` does: module:function may be a file of the current folder.
    sys.path.insert(0, str(Path.cwd()))
    try:
        _run(options)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        parser.error(str(error))


def _run(options: argparse.Namespace) -> None:
    is_compared = options.is_study or len(options.models) > 1
    if options.checkpoint is not None and len(options.models) > 1:
        raise ValueError("`--checkpoint`: expected one MODEL to load it into, got several")
    if options.is_study and "twonn" not in options.estimators:
        raise ValueError(
            "`--estimators`: expected twonn among them, which is compared with the error, got"
            f" {','.join(options.estimators)}"
        )
    together = options.out or options.default_out
    folders: dict[str, Path] = {}
    histories: dict[str, History] = {}
    for model in options.models:
        name, folder = model, together / _file_name(model, options.weights)
        if Path(model, RECORDS_FILE).exists():
            name, folder = Path(model).resolve().name, Path(model)
            histories[name] = History.load(folder)
            if not histories[name].records:
                raise ValueError(
                    f"`MODEL`: expected records in {folder}, got none; profile it again"
                )
        elif options.out and not is_compared:
            folder = options.out
        if name in folders:
            raise ValueError(f"`MODEL`: expected every network once, got {name} again")
        folders[name] = folder
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
        together.mkdir(parents=True, exist_ok=True)
        _compare({name: histories[name] for name in folders}, together)
    page = (together if is_compared or options.out else folder) / "report.html"
    _say(f"Page:                     {write_report(list(folders.values()), page)}")


def _measure(folders: Mapping[str, Path], options: argparse.Namespace) -> dict[str, History]:
    """Measure networks, each with its table and its files as soon as it is done."""
    if options.data is None:
        raise ValueError(f"`--data`: expected images to measure {', '.join(folders)} on, got none")
    pictures = choose_pictures(options.data, options.n_samples, options.seed)
    for note in pictures.notes:
        _say(note)
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    histories = {}
    for model, folder in folders.items():
        history = profile(model, pictures, settings, options.checkpoint, options.weights)
        if not history.records:
            raise ValueError(f"nothing was measured of {model}; the warnings above say why")
        _keep(model, history, folder, options.estimators)
        histories[model] = history
    return histories


def _keep(model: str, history: History, folder: Path, estimators: Sequence[str]) -> None:
    history.save(folder)
    depth_profile(history, estimators[0]).savefig(folder / PICTURE)
    accuracy = ", ".join(f"accuracy {share:.1%} ({stage})" for stage, share in accuracies(history))
    words = "\n".join(f"{topic}: {text}" for topic, text in findings(history))
    _say(
        f"\n{model}: {accuracy or 'no accuracy, the labels (if any) are not those of its outputs'}"
        f"\n\n{end_table(history, estimators)}\n\n{words}\n\n"
        f"Dimension against depth:  {folder / PICTURE}\n"
        f"All records:              {folder / RECORDS_FILE}"
    )


def _compare(histories: Mapping[str, History], folder: Path) -> None:
    rows = compare(histories)
    write_comparison(rows, folder / "comparison.csv")
    comparison_figure(rows).savefig(folder / "comparison.png")
    _say(
        f"\n{comparison_text(rows)}\n\n"
        f"Last hidden ID and error: {folder / 'comparison.png'}\n"
        f"The same as CSV:          {folder / 'comparison.csv'}"
    )


def _file_name(model: str, weights: str) -> str:
    """Return a model as the name of a folder; the untrained network has one of its own."""
    return re.sub(r"[^\w.-]+", "-", model).strip("-.") + "-untrained" * (weights == "untrained")


def _parser(words: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"lightning-id {words}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="DATA", help="the images")
    add("--checkpoint", metavar="FILE", help="weights for MODEL, in place of its own")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--untrained", dest="weights", action="store_const", const="untrained", default="trained",
        help="random weights instead of the trained ones",
    )  # fmt: skip
    which.add_argument(
        "--both", dest="weights", action="store_const", const="both",
        help="the network with random weights too, as the network before training",
    )  # fmt: skip
    add("--n-samples", type=int, default=2000, metavar="N", help="images; default: 2000")
    add("--seed", type=int, default=0, help="of the choice of images and of random weights")
    add("--layers", type=_layers, default="auto", metavar="NAME,...", help="names, globs; or auto")
    add("--estimators", type=_words, default=("twonn", "pca"), metavar="NAME,...",
        help=f"of {', '.join(ESTIMATORS)}, and what MODEL registers when it is imported; default:"
        " twonn,pca; twonn,pca,twonn_gaussian sets curved against linear")  # fmt: skip
    add("--reduce", choices=get_args(Reduce), default="flatten", help="default: flatten")
    add("--image-size", type=int, metavar="PIXELS", help="default: what MODEL was trained on")
    add("--batch-size", type=int, default=32, metavar="N", help="default: 32")
    add("--per-class", type=int, nargs="?", const=True, default=False, metavar="N",
        help="measure each class that has N images too; default: 100")  # fmt: skip
    add("--memory-limit", type=float, default=4, metavar="GIB",
        help="of rows in memory, what is more goes to a temporary file; default: 4")  # fmt: skip
    return parser


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _layers(text: str) -> str | list[str]:
    return text if text == "auto" else text.split(",")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
