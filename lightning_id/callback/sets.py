"""The sample sets that a callback measures: names, loaders, and the prefixes of their keys."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch.utils.data import Dataset

from lightning_id._checks import class_given

OfTheFit = Literal["val", "train"]
Data = Sequence[OfTheFit] | Mapping[str, Iterable[Any] | OfTheFit]

VAL, TRAIN = get_args(OfTheFit)
TEST = "test"


@dataclass(frozen=True, eq=False)  # a loader need not be hashable
class SampleSet:
    """A set of samples that is measured separately."""

    name: str  # in the column ``data`` of a history
    loader: Iterable[Any] | OfTheFit
    key_prefix: str = ""  # of its logged keys


def sample_sets(data: Data) -> list[SampleSet]:
    """Return the sample sets of the argument ``data``; keys of the first have no prefix."""
    if isinstance(data, str) or not isinstance(data, Sequence | Mapping) or not data:
        raise ValueError(
            f"`data`: expected a list of 'val' and 'train', or names and loaders, got {data!r}"
        )
    loaders = dict(data) if isinstance(data, Mapping) else {name: name for name in data}
    if len(loaders) < len(data):
        raise ValueError(f"`data`: expected every set once, got {data!r}")
    for name, loader in loaders.items():
        _check(name, loader)
    first = next(iter(loaders))
    return [
        SampleSet(name, loader, "" if name == first else f"{name}_")
        for name, loader in loaders.items()
    ]


def sets_of_probe(probe: Iterable[Any] | OfTheFit) -> list[SampleSet]:
    """Return the sample set of the deprecated argument ``probe``, with a warning."""
    new = f"data=[{probe!r}]" if isinstance(probe, str) else "data={'probe': loader}"
    warnings.warn(
        f"`probe` is deprecated and will be removed in the next release; use {new}",
        FutureWarning,
        stacklevel=3,
    )
    return sample_sets({probe if isinstance(probe, str) else "probe": probe})


def sets_of_stage(sets: Sequence[SampleSet], stage: str) -> list[SampleSet]:
    """Return the sets of a stage: all in a fit, else the one that is validated or tested."""
    if stage == "fit":
        return list(sets)
    name = TEST if stage == "test" else VAL
    return [each for each in sets if each.name == name] or [SampleSet(name, VAL)]


def _check(name: object, loader: object) -> None:
    """Raise for a name that keys cannot hold or a set of the Trainer has, and for no loader."""
    if isinstance(loader, type):
        raise ValueError(class_given("data", loader))
    if isinstance(loader, str | Dataset) and loader not in (VAL, TRAIN):
        raise ValueError(
            f"`data`: expected a DataLoader, 'train' or 'val', got {loader!r}; DataLoader(...)"
            " makes one of a data set"
        )
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"`data`: expected names of letters, digits and underscores, got {name!r}")
    if name in (VAL, TRAIN, TEST) and name != loader:
        raise ValueError(
            f"`data`: expected another name than {name!r}, which is that of a set of the Trainer"
        )
