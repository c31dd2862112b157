"""The callback, its parts, and `monitoring`: the same measurements in a loop without a Trainer."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_id.callback.callback import CallbackBase, IntrinsicDimensionCallback

__all__ = ["CallbackBase", "IntrinsicDimensionCallback"]


def __getattr__(name: str) -> Any:
    """Import the callback at first use: `lightning_id.callback.monitoring` needs no Lightning."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lightning_id.callback import callback  # noqa: PLC0415

    return getattr(callback, name)
