"""Context manager that restores the global RNG state."""

from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities.seed import isolate_rng


@contextmanager
def kept_rng() -> Iterator[None]:
    """Restore the global RNG states of torch, numpy and Python, also after an exception.

    `isolate_rng` of pytorch-lightning 2.6 does not restore them after an exception.

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
        except BaseException as error:  # raised again when the states are restored
            failure = error
    if failure is not None:
        raise failure
