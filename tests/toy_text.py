"""A tiny encoder of text in a folder of `save_pretrained`, with its tokenizer."""

import string
from collections.abc import Sequence
from pathlib import Path

import transformers

LETTERS = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]


def save_encoder(folder: Path, words: Sequence[str] = LETTERS, n_layers: int = 2) -> Path:
    """Write a BERT of 16 units with random weights, and a tokenizer of some words or letters."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(tokens))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=n_layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=256,
    )
    transformers.set_seed(5)
    transformers.BertModel(config).save_pretrained(folder)
    return folder
