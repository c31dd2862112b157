"""Photographs and networks to profile, and how the tests profile them."""

from pathlib import Path

import numpy as np
from PIL import Image

from lightning_id import History
from lightning_id.__main__ import main
from lightning_id.profile.images import choose_images
from lightning_id.profile.run import Settings, profile

# The first looks at the colour of an image and is right, the second gives class 0 always.
NETS = """
import torch
from torch import nn

class Colours(nn.Module):
    def __init__(self, n_outputs=3):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(3, 6)
        self.fc = nn.Linear(6, n_outputs)
        nn.init.eye_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)
        nn.init.eye_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        self.features(x)
        return self.fc(self.hidden(self.pool(x).flatten(1)))

class Always0(Colours):
    def __init__(self):
        super().__init__()
        self.fc.bias.data[0] = 100

def two_outputs():
    return Colours(2)

class Pair(Colours):
    def forward(self, x):
        return super().forward(x), x

class Rows(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

class Words(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Embedding(50, 6), nn.Flatten(), nn.Linear(24, 5))

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.input = nn.Linear(6, 5)
    def forward(self, x):
        return self.input(x)
"""
N = 36
QUICK = ["--image-size=16", "--batch-size=8"]


def make_files() -> None:
    """Write photographs of three colours, inputs, and code into the working folder."""
    Path("nets_of_profile.py").write_text(NETS)
    rng = np.random.default_rng(0)
    for i in range(N):
        size = (24, 20, 3) if i % 2 else (20, 30, 3)
        pixels = rng.integers(0, 100, size, dtype=np.uint8)
        pixels[..., i % 3] += 120
        path = Path(f"photos/class{i % 3}/{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    np.save("rows.npy", rng.standard_normal((200, 6)))


def run(*words: str) -> History:
    """Call the command as a user does."""
    main(["profile", *words, "--out=out"])
    return History.load("out")


def measured(model, data="photos", weights="trained", checkpoint=None, **settings) -> History:
    """Measure without the pictures and the page, which take most of the time."""
    settings = Settings(**{"image_size": 16, "batch_size": 8} | settings)
    return profile(f"nets_of_profile:{model}", choose_images(data), settings, checkpoint, weights)


def values(history: History, estimator: str = "twonn", stage: str = "validate") -> dict:
    return {r["layer"]: r["value"] for r in history.at((stage, 0, 0), estimator)}
