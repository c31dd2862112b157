"""The callback for the other of Lightning's two class trees, the package ``lightning``.

A callback of one tree is refused by the Trainer of the other.
"""

from lightning.pytorch import Callback

from lightning_id.callback import IntrinsicDimensionHooks


class IntrinsicDimensionCallback(IntrinsicDimensionHooks, Callback):
    """The callback for ``lightning.pytorch``: see `IntrinsicDimensionHooks` for all it takes."""
