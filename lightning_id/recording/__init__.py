"""Rows of the layers of a network, and the measurement of all layers, for any PyTorch loop."""

from lightning_id.recording.activations import record_activations
from lightning_id.recording.layers import auto_layers, select_layers
from lightning_id.recording.modules import named_layers
from lightning_id.recording.projection import RandomProjection
from lightning_id.recording.rule import first_tensor, reduce_rows
from lightning_id.recording.samples import choose_samples

__all__ = [
    "RandomProjection",
    "auto_layers",
    "choose_samples",
    "first_tensor",
    "named_layers",
    "record_activations",
    "reduce_rows",
    "select_layers",
]
