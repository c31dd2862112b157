"""Clouds of rows for several tests that `lightning_id.manifolds` lacks."""

import torch


def noisy(x, size, seed=0):
    return x + size * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
