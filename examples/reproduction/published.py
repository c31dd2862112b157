"""The numbers that Ansuini et al. (2019) published: their key `source` names the origin."""

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def published() -> dict[str, Any]:
    """Return the content of `published.json`, by figure; read only, because all callers share it.

    Example:
        >>> figure = published()["fig6b_mnist"]
        >>> dict(zip(figure["layers"], figure["MNIST"]))["input"]
        13.16
    """
    file = Path(__file__).with_name("published.json")
    numbers: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return numbers
