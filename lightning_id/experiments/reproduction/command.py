"""The subcommands `lightning-id profile` and `lightning-id study pretrained`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_id.experiments.reproduction.pretrained import (
    compare,
    comparison_figure,
    comparison_text,
    write_comparison,
)
from lightning_id.history import History
from lightning_id.profile import command
from lightning_id.profile.networks import LITE

OUT = Path("runs/pretrained")

_STUDY = f"""\
Test whether the dimension of the last hidden layer goes with the error, over trained networks.

{command.MODEL_AND_DATA}
Example: lightning-id study pretrained resnet18 resnet50 runs/profile/vgg16 --data photos
"""


def profile(args: Sequence[str]) -> None:
    """Run `lightning-id profile` with the arguments that follow it."""
    command.main(args, write_all)


def study_pretrained(args: Sequence[str]) -> None:
    """Run `lightning-id study pretrained` with the arguments that follow it."""
    parser = command.arguments("study pretrained", _STUDY)
    default = list(LITE)
    names = f"networks; default: {' '.join(LITE)}"
    parser.add_argument("models", nargs="*", metavar="MODEL", default=default, help=names)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"default: {OUT}")
    command.run(parser, args, OUT, write_all, always_compares=True)


def write_all(histories: Mapping[str, History], folder: Path) -> str:
    """Write the comparison of networks as figure and CSV, and return it as text."""
    rows = compare(histories)
    write_comparison(rows, folder / "comparison.csv")
    comparison_figure(rows).savefig(folder / "comparison.png")
    return (
        f"{comparison_text(rows)}\n\n"
        f"Last hidden ID and error: {folder / 'comparison.png'}\n"
        f"The same as CSV:          {folder / 'comparison.csv'}"
    )
