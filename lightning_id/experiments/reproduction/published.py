"""The numbers that the source work published, as data: see `source` in them for where from."""

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def published() -> dict[str, Any]:
    """Return the published numbers, by figure.

    Returns:
        What `published.json` beside this file holds. To be read only: all callers share it.

    Example:
        >>> figure = published()["fig6b_mnist"]
        >>> dict(zip(figure["layers"], figure["MNIST"]))["input"]
        13.16
    """
    text = (
        files("lightning_id.experiments.reproduction").joinpath("published.json").read_text("utf-8")
    )
    numbers: dict[str, Any] = json.loads(text)
    return numbers
