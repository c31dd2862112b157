"""The callback for the other of Lightning's two class trees, the package ``lightning``.

A callback of one tree is refused by the Trainer of the other.
"""

from lightning.pytorch import Callback

from lightning_id.callback import IntrinsicDimensionHooks


class IntrinsicDimensionCallback(IntrinsicDimensionHooks, Callback):  # noqa: D101
    __doc__ = IntrinsicDimensionHooks.__doc__  # for `help`, and that of a command line
