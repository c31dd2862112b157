"""Token vectors drawn once from all samples."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_id.recording.rule import RowRule
from lightning_id.recording.samples import ReservoirSamples


class TokenDraw:
    """Draws tokens uniformly from all tokens of one pass, the same ones whatever the padding.

    The draw depends on the numbers of true tokens alone: all layers with as many, and all passes
    over the same samples, have the same ones.
    """

    def __init__(self, rule: RowRule, n_tokens: int) -> None:
        self._chosen = ReservoirSamples(n_tokens, rule.seed)
        self._positions, self._most = rule.positions, rule.tokens_per_sample
        self._generator = torch.Generator().manual_seed(rule.seed)

    def next_rows(
        self, tokens: Float[Tensor, "r t d"], mask: Bool[Tensor, "r m"] | None
    ) -> tuple[Float[Tensor, "k d"], Int[Tensor, " k"]]:
        """Return the chosen tokens of the next samples, and the slot of each among all chosen."""
        if mask is not None and mask.shape[1] != tokens.shape[1]:
            raise ValueError(
                f"expected {mask.shape[1]} tokens, as the mask has, got {tokens.shape[1]}"
            )
        counts = torch.ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()
        sample, place = self._candidates(counts).nonzero(as_tuple=True)
        rows, slots = self._chosen.next_batch(len(sample))
        sample, place = sample[rows].to(tokens.device), place[rows].to(tokens.device)
        return tokens[sample, place], slots

    def _candidates(self, mask: Bool[Tensor, "r t"]) -> Bool[Tensor, "r t"]:
        """Return the tokens that may be drawn: at the positions, at most so many a sample."""
        if self._positions is not None:
            nth, n = mask.cumsum(1) - 1, mask.sum(1, keepdim=True)
            of_positions = [nth == (p if p >= 0 else n + p) for p in self._positions]
            mask = mask & torch.stack(of_positions).any(0)
        if self._most is None:
            return mask
        keys = torch.full(mask.shape, 2.0, dtype=torch.float64)
        n_keys = int(mask.sum())
        keys[mask] = torch.rand(n_keys, generator=self._generator, dtype=torch.float64)
        return mask & (keys.argsort(1).argsort(1) < self._most)
