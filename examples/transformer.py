"""A transformer with padding: one row per sample from its tokens, three ways.

    python examples/transformer.py

The batch is a dictionary and the model returns one, as the models of Hugging Face do.
"""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from lightning_id import IntrinsicDimensionCallback

WORDS, LONGEST = 50, 12


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(32, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        hidden = self.blocks(self.embed(input_ids), src_key_padding_mask=attention_mask == 0)
        return {"last_hidden_state": hidden, "logits": self.head(hidden[:, 0])}


class Task(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = Encoder()

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        out = self.model(batch["input_ids"], batch["attention_mask"])
        return cross_entropy(out["logits"], batch["labels"])

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        out = self.model(batch["input_ids"], batch["attention_mask"])
        self.log("val_acc", (out["logits"].argmax(1) == batch["labels"]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def sentences(n: int, seed: int) -> list[dict[str, Tensor]]:
    """Sentences of 4 to 12 words; label 1 if the first word occurs again."""
    draw = torch.Generator().manual_seed(seed)
    words = torch.randint(1, WORDS, (n, LONGEST), generator=draw)
    length = torch.randint(4, LONGEST + 1, (n, 1), generator=draw)
    mask = (torch.arange(LONGEST) < length).long()
    again = torch.rand(n, generator=draw) < 0.5
    words[again, 2] = words[again, 0]
    labels = ((words == words[:, :1]) & (mask == 1)).sum(1).gt(1).long()
    return [
        {"input_ids": w * m, "attention_mask": m, "labels": y}
        for w, m, y in zip(words, mask, labels, strict=True)
    ]


if __name__ == "__main__":
    layers = "model.blocks.layers.[0-9]"  # the blocks, not their submodules
    callbacks = [
        # The mean over the tokens that are no padding; the first token; tokens drawn from all.
        IntrinsicDimensionCallback(layers, reduce="mean", prefix="mean_"),
        IntrinsicDimensionCallback(layers, reduce="cls", prefix="cls_"),
        IntrinsicDimensionCallback(layers, reduce="tokens", prefix="token_"),
    ]
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=[*callbacks],
        num_sanity_val_steps=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(
        Task(),
        DataLoader(sentences(1000, seed=0), 50, shuffle=True),
        DataLoader(sentences(600, seed=1), 100),
    )
    for callback in callbacks:
        for name, value in callback.last_metrics.items():
            if "id_twonn/" in name:
                print(f"{name:40} {value:.2f}")
