"""Measure a language model of ``transformers`` on lines of text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_id._checks import how_to_install
from lightning_id.callback.monitoring import Monitor
from lightning_id.history import BEFORE_TRAINING, History
from lightning_id.profile.networks import installed
from lightning_id.profile.run import Settings
from lightning_id.recording.passes import kept_rng
from lightning_id.recording.samples import choose_samples

LONGEST = 512  # tokens: longer lines are cut

Collate = Callable[[Sequence[str]], Mapping[str, Any]]


@dataclass(frozen=True)
class Text:
    """Lines to measure, and remarks on their choice."""

    lines: list[str]
    notes: list[str]


def read_text(file: Path, n_samples: int, seed: int, shuffles_words: bool = False) -> Text:
    """Choose lines of a file, each text once, and shuffle the words of each on request."""
    every = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    filled = [line for line in every if line]
    distinct = list(dict.fromkeys(filled))
    if not distinct:
        raise ValueError(f"`--text`: expected lines of text in {file}, got none")
    lines = [distinct[i] for i in choose_samples(len(distinct), n_samples, seed).tolist()]
    notes = [f"{len(lines)} of {len(distinct)} lines of {file}"]
    if len(distinct) < len(filled):
        notes.append(f"{len(filled) - len(distinct)} repeated lines are left out")
    if shuffles_words:
        generator = torch.Generator().manual_seed(seed)
        lines = [_shuffled(line, generator) for line in lines]
        notes.append("the words of each line are shuffled")
    return Text(lines, notes)


def load_text_network(model: str, untrained: bool, seed: int) -> tuple[nn.Module, Collate]:
    """Load a saved folder, or a name of a hub: the model without head or decoder, its tokenizer."""
    transformers = installed("transformers")
    if transformers is None:
        raise ValueError(
            f"`--text` needs the package transformers: {how_to_install('transformers')}"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        with kept_rng():
            if untrained:
                config = transformers.AutoConfig.from_pretrained(model)
                transformers.set_seed(seed)
                network = transformers.AutoModel.from_config(config)
            else:
                network = transformers.AutoModel.from_pretrained(model)
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`MODEL`: expected a folder of save_pretrained with model and tokenizer, got {model}:"
            f" {error}"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    longest = min(tokenizer.model_max_length, LONGEST)

    def collate(lines: Sequence[str]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = tokenizer(
            list(lines), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return found

    return network, collate


def profile_text(
    model: str,
    text: Text,
    settings: Settings,
    weights: Literal["trained", "untrained", "both"] = "trained",
) -> History:
    """Measure the layers of a model with trained, untrained or both weights."""
    network, collate = load_text_network(model, weights != "trained", settings.seed)
    if torch.accelerator.is_available():
        network.to(torch.accelerator.current_accelerator())
    layers = settings.layers
    watch = Monitor(
        network,
        DataLoader(text.lines, settings.batch_size, collate_fn=collate),  # type: ignore[arg-type]
        layers=layers if isinstance(layers, str) else list(layers),
        estimators=settings.estimators,
        n_samples=len(text.lines),
        seed=None,
        reduce=settings.reduce,
        memory_limit=settings.memory_limit,
    )
    if weights != "trained":
        watch.measure(BEFORE_TRAINING)
    if weights == "both":
        trained, _ = load_text_network(model, untrained=False, seed=settings.seed)
        network.load_state_dict(trained.state_dict())
    if weights != "untrained":
        watch.measure("validate")
    return watch.history


def _shuffled(line: str, generator: torch.Generator) -> str:
    words = line.split()
    order = torch.randperm(len(words), generator=generator).tolist()
    return " ".join(words[i] for i in order)
