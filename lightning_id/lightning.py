"""The callback for the other of Lightning's two class trees, the package ``lightning``.

A callback of one tree is refused by the Trainer of the other.
"""

from lightning.pytorch import Callback

from lightning_id.callback import CallbackBase


class IntrinsicDimensionCallback(CallbackBase, Callback):  # type: ignore[misc]  # noqa: D101
    __doc__ = CallbackBase.__doc__  # for `help`, and that of a command line
