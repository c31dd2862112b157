"""A TensorBoard run for each layer, so that one chart shows all layers, each in its colour."""

import math
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_id.callback.loggers import is_tensorboard, key_names
from lightning_id.callback.sets import SampleSet
from lightning_id.recording.results import LayerResult

FOLDER = "layers"


class LayerCurves:
    """Writes ``id/<estimator>`` into a run ``layers/<order>-<layer>`` of each layer, on rank 0."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self._writers: dict[str, Any] = {}  # by folder

    def write(
        self,
        loggers: Sequence[Any],
        results: Mapping[SampleSet, Sequence[LayerResult]],
        step: int,
    ) -> None:
        """Add the values of a measurement to the curves of every TensorBoard logger."""
        for logger in filter(is_tensorboard, loggers):
            for each, of_set in results.items():
                runs = f"{self.prefix}{each.key_prefix}{FOLDER}"
                names = key_names([result.layer for result in of_set])
                for result in of_set:
                    run = f"{result.order:02d}-{names[result.layer]}"
                    writer = self._writer(logger, posixpath.join(logger.log_dir, runs, run))
                    for estimator, estimate in result.estimates.items():
                        if math.isfinite(estimate.value):
                            writer.add_scalar(f"id/{estimator}", estimate.value, step)
                    writer.flush()

    def close(self) -> None:
        """Close all writers. Idempotent; safe to call at any point."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _writer(self, logger: Any, folder: str) -> Any:
        if folder not in self._writers:
            self._writers[folder] = type(logger.experiment)(folder)  # of torch or tensorboardX
        return self._writers[folder]
