"""The callback: `callback` schedules measurements, the other modules are its parts."""

from lightning_id.callback.callback import CallbackBase, IntrinsicDimensionCallback

__all__ = ["CallbackBase", "IntrinsicDimensionCallback"]
