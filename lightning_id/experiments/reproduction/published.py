"""The numbers that Ansuini et al. (2019) published: their key `source` names the origin."""

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def published() -> dict[str, Any]:
    """Return the content of `published.json`, by figure; read only, because all callers share it.

    Example:
        >>> figure = published()["fig6b_mnist"]
        >>> dict(zip(figure["layers"], figure["MNIST"]))["input"]
        13.16
    """
    file = files("lightning_id.experiments.reproduction") / "published.json"
    numbers: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return numbers
