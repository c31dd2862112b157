"""Watch the intrinsic dimension of every layer's representation while a network trains."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_id.callback import IntrinsicDimensionCallback
    from lightning_id.callback.monitoring import monitor
    from lightning_id.callback.schedule import AtSteps, EveryNValidations, LogSpaced
    from lightning_id.history import History
    from lightning_id.metrics import PCADimension, TwoNNDimension
    from lightning_id.recording import record_activations

__all__ = [
    "AtSteps",
    "EveryNValidations",
    "History",
    "IntrinsicDimensionCallback",
    "LogSpaced",
    "PCADimension",
    "TwoNNDimension",
    "monitor",
    "record_activations",
]

# Imported at first use: `lightning_id.functional` works where Lightning and torchmetrics do
# not exist, and does not wait for them to be imported.
_HOMES = {
    "AtSteps": "callback.schedule",
    "EveryNValidations": "callback.schedule",
    "History": "history",
    "IntrinsicDimensionCallback": "callback",
    "LogSpaced": "callback.schedule",
    "PCADimension": "metrics",
    "TwoNNDimension": "metrics",
    "monitor": "callback.monitoring",
    "record_activations": "recording",
}
_SUBPACKAGES = ("figures", "functional", "metrics")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
