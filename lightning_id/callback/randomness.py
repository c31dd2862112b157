"""The global random numbers as they were, whatever happens in between."""

from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities.seed import isolate_rng


@contextmanager
def kept_rng() -> Iterator[None]:
    """Give the states of the global generators of torch, numpy and Python back at the end.

    Also after an exception, after which `isolate_rng` of pytorch-lightning 2.6 gives nothing back.

    Example:
        >>> import random
        >>> before = random.getstate()
        >>> try:
        ...     with kept_rng():
        ...         1 / (random.random() * 0)
        ... except ZeroDivisionError:
        ...     random.getstate() == before
        True
    """
    failure = None
    with isolate_rng():
        try:
            yield
        except BaseException as error:  # raised again when the states are given back
            failure = error
    if failure is not None:
        raise failure
