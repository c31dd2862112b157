"""The rows of the chosen samples, selected from the output of one layer for one batch."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lightning_id.recording.axes import Axes, FeatureAxis
from lightning_id.recording.batches import Padding
from lightning_id.recording.rule import (
    RowRule,
    first_tensor,
    fits,
    pad,
    reduce_rows,
    tokens_of,
    why_not,
)
from lightning_id.recording.samples import ReservoirSamples, TokenDraw

_OPEN_SAMPLES = (
    "axes 0 and 1 are both as long as the batch: axis 0 was taken for the samples, as sample_dim=0"
    " would"
)
_OPEN_TOKENS = "the features may lie along axis 1 or axis 2: axis 2 was taken"
_OPEN_MAPS = "the features may lie along axis 1 or the last axis: axis 1 was taken"

_PER = {
    "all": "every row is a sample of its own",
    "first": "the first rows are the samples",
    "chunks": "the chunks of a batch are put together",
}
_TOKENS = "every row is a token, drawn once from all samples"

Selected = tuple[Float[Tensor, "r d"], Int[Tensor, " r"]]  # rows of a layer, and their slots


@dataclass(frozen=True)
class Batch:
    """The chosen samples of a batch."""

    size: int  # samples in the batch
    rows: Int[Tensor, " r"]  # the chosen ones among them
    slots: Int[Tensor, " r"]  # the place of each among all chosen samples
    mask: Bool[Tensor, "b t"] | None = None  # of tokens that count, where the user named it
    padding: tuple[Padding, ...] = ()  # found without a name
    n_padded: int | None = None  # tokens of each sample, if padding among them is recorded


class RowSelector:
    """Selects the rows of one layer, batch by batch, and collects caveats about them."""

    def __init__(
        self, name: str, rule: RowRule, axes: Axes, draws: Float[Tensor, " n"], n_rows: int
    ) -> None:
        self.width: int | None = None  # features of a row, from the first one on
        self.holds_padding = False  # whether rows hold padding that a batch marks
        self._reduce = rule.reduce
        self._rows_per_sample = rule.rows_of(name)
        self._given_axis = rule.axis_of(name)
        self._axes = axes
        self._draws = draws
        self._own_samples: ReservoirSamples | None = None
        if self._rows_per_sample == "all":
            self._own_samples = ReservoirSamples(n_rows, rule.seed)
        self._token_draw = TokenDraw(rule, n_rows) if self._reduce == "tokens" else None
        self._sources: set[str] = set()  # of padding that is left out
        self._fitting_axes: set[int] | None = None  # as long as every batch so far
        self._largest_batch = 0
        self._n_left_out = 0
        self.n_met = 0  # samples in the chunks of this batch
        self._short: tuple[int, int] | None = None  # axis and rows of calls with too few rows
        self._open: dict[str, bool] = {}  # caveats on axes, and whether they hold of every batch

    def start_batch(self) -> None:
        """Start a batch, of which no chunk has passed."""
        self.n_met, self._short = 0, None

    def has_rows_in(self, batch: Batch) -> bool:
        """Whether rows may be selected for a batch."""
        return self._own_samples is not None or len(batch.rows) > 0

    def select(self, batch: Batch, output: Any, module: nn.Module | None) -> Selected | None:
        """Return copies of the chosen rows and their slots, if any; raise if none fit."""
        padded, tokens = pad(output)
        tensor = first_tensor(padded)
        if isinstance(output, Tensor) and self._reduce == "flatten":
            tokens = None  # an encoder of nested tensors returns zeros there in the end
        axis = self._sample_axis(batch, tensor, module) if tokens is None else 0
        if not self._fits(batch, tuple(tensor.shape), axis):
            self._n_left_out += len(batch.rows)
            return None
        rows, slots, draws = self._choose(batch, tensor.shape[axis])
        if not len(rows):
            return None
        mask = None if tokens is None else tokens[rows]
        # index_select makes new memory: a slice would change with later operations in place, and
        # keep the whole batch alive.
        index = rows.to(tensor.device, non_blocking=True)
        chosen = tensor.index_select(axis, index).movedim(axis, 0)
        chosen, features = self._joined(chosen, self._feature_axis(chosen, module))
        if mask is None:
            mask = self._mask(batch, slots, chosen, features, module)
        if mask is None:
            self.holds_padding |= chosen.ndim == 3 and batch.n_padded in chosen.shape[1:]
        else:
            mask = mask.to(tensor.device)
        if self._token_draw is not None:
            reduced, slots = self._token_draw.next_rows(tokens_of(chosen, features), mask)
        else:
            reduced = reduce_rows(chosen, self._reduce, mask, draws, features)
        self.width = reduced.shape[1]
        return (reduced, slots) if len(slots) else None

    def caveats(self) -> list[str]:
        """Return caveats about how the rows were obtained."""
        n = self._n_left_out
        left_out = [f"{n} samples of a smaller batch are left out: it gave other rows"] * (n > 0)
        return left_out + [text for text, holds in self._open.items() if holds]

    def rule_notes(self) -> list[str]:
        """Return the effect of ``rows_per_sample`` and of tokens as rows."""
        per = self._rows_per_sample
        notes = [f"{per} rows one after another are one sample"] if per not in (1, *_PER) else []
        notes += [_PER[per]] if isinstance(per, str) else []
        return notes + [_TOKENS] * (self._token_draw is not None)

    def padding_notes(self) -> list[str]:
        """Return the masks by which padding in the batches was left out."""
        return [f"padding by {source} is left out" for source in sorted(self._sources)]

    def count_later_call(self, output: Any) -> None:
        """Count the rows of a later call in a batch, if the first call had too few."""
        if self._short is not None:
            axis, n = self._short
            self._short = axis, n + first_tensor(output).shape[axis]

    def why_chunks(self, batch: Batch, n_calls: int) -> str | None:
        """Return the reason for no rows if all calls of a layer together had as many as a batch."""
        if self._short is None or self._short[1] != batch.size:
            return None
        return (
            f"expected {batch.size} samples along axis {self._short[0]}, got as many rows in"
            f" {n_calls} calls; rows_per_sample='chunks' puts them together"
        )

    def has_all_chunks(self, batch: Batch) -> bool:
        """Whether chunks hold all samples of a batch; raise if not, except for a last small one."""
        if self.n_met == batch.size:
            return True
        if batch.size < self._largest_batch:
            self._n_left_out += len(batch.rows)
            return False
        raise ValueError(
            f"expected chunks of {batch.size} samples together, got {self.n_met} rows;"
            " rows_per_sample='chunks' is for a layer that is given a batch part by part"
        )

    @property
    def _n_joined(self) -> int:
        """Consecutive rows that are one sample."""
        return self._rows_per_sample if isinstance(self._rows_per_sample, int) else 1

    def _choose(
        self, batch: Batch, n_rows: int
    ) -> tuple[Int[Tensor, " k"], Int[Tensor, " r"], Float[Tensor, " r"]]:
        """Return which rows of an output are selected, and the slots and draws of their samples."""
        if self._own_samples is not None:
            rows, slots = self._own_samples.next_batch(n_rows)
            return rows, slots, self._own_samples.draws[slots]
        if self._rows_per_sample == "chunks":
            start, self.n_met = self.n_met, self.n_met + n_rows
            is_here = (batch.rows >= start) & (batch.rows < self.n_met)
            slots = batch.slots[is_here]
            return batch.rows[is_here] - start, slots, self._draws[slots]
        n = self._n_joined
        rows = (batch.rows[:, None] * n + torch.arange(n)).flatten()
        return rows, batch.slots, self._draws[batch.slots]

    def _mask(
        self,
        batch: Batch,
        slots: Int[Tensor, " r"],
        chosen: Float[Tensor, "r ..."],
        features: FeatureAxis | None,
        module: nn.Module | None,
    ) -> Bool[Tensor, "r t"] | None:
        """Return the tokens that count of each sample; None for all, or if that is not known."""
        if self._own_samples is not None:
            return None
        mask = batch.mask if chosen.ndim > 2 or self._token_draw is None else None
        if mask is None and chosen.ndim == 3 and self._reduce != "flatten":
            n_tokens = tokens_of(chosen, features).shape[1]
            is_of_decoder = module in self._axes.side_of_decoder
            for padding in batch.padding:
                is_fit = padding.mask.shape[1] == n_tokens
                if is_fit and padding.is_of_decoder == is_of_decoder:
                    mask = padding.mask
                    self._sources |= set() if bool(mask.all()) else {padding.source}
        if mask is None:
            return None
        samples = batch.rows[torch.isin(batch.slots, slots)]
        return mask[samples.to(mask.device)]

    def _joined(
        self, chosen: Float[Tensor, "k ..."], features: FeatureAxis | None
    ) -> tuple[Float[Tensor, "r ..."], FeatureAxis | None]:
        """Join the rows of each sample: their tokens are its tokens."""
        n = self._n_joined
        if n == 1:
            return chosen, features
        if self._reduce == "flatten":
            return chosen.reshape(-1, n, *chosen.shape[1:]), features
        tokens = tokens_of(chosen, features)
        return tokens.reshape(-1, n * tokens.shape[1], tokens.shape[2]), -1

    def _fits(self, batch: Batch, shape: tuple[int, ...], axis: int) -> bool:
        """Whether an output has the rows of its batch; raise if not, but for a last small one."""
        if len(shape) <= axis:
            raise ValueError(f"expected {batch.size} samples along axis {axis}, got shape {shape}")
        axes = {
            i for i, length in enumerate(shape) if fits(length, batch.size, self._rows_per_sample)
        }
        before = axes if self._fitting_axes is None else self._fitting_axes
        self._fitting_axes = axes & before
        is_smaller = batch.size < self._largest_batch
        self._largest_batch = max(self._largest_batch, batch.size)
        if axis in axes:
            return True
        if is_smaller and not self._fitting_axes:  # a module may pad it: it is left out
            return False
        if self._rows_per_sample == 1 and shape[axis] < batch.size:
            self._short = axis, shape[axis]
        raise ValueError(
            f"expected {batch.size} samples along axis {axis}, got {shape[axis]} rows;"
            f" {why_not(shape, axis, batch.size)}"
        )

    def _sample_axis(self, batch: Batch, tensor: Tensor, module: nn.Module | None) -> int:
        if self._given_axis is not None or module is None:
            return self._given_axis or 0
        axis, is_open = self._axes.of_samples(
            module, tuple(tensor.shape), lambda n: fits(n, batch.size, self._rows_per_sample)
        )
        self._note(_OPEN_SAMPLES, is_open and self._rows_per_sample == 1)
        return axis

    def _feature_axis(
        self, chosen: Float[Tensor, "k ..."], module: nn.Module | None
    ) -> FeatureAxis | None:
        if module is None or chosen.ndim < 3 or self._reduce == "flatten":
            return None
        axis, is_open = self._axes.of_features(module, tuple(chosen.shape))
        self._note(_OPEN_TOKENS if chosen.ndim == 3 else _OPEN_MAPS, is_open)
        return axis

    def _note(self, text: str, holds: bool) -> None:
        """Keep a caveat for as long as it holds of every batch."""
        self._open[text] = holds and self._open.get(text, True)
