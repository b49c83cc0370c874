"""Correlation of ranks."""

from __future__ import annotations

import torch
from torch import Tensor


def ranks(x: Tensor) -> Tensor:
    """Ranks along the last dimension, from 1; ties share the mean of their ranks.

    Args:
        x: (..., n); NaN has no rank and is counted by nobody.
    """
    below = (x[..., None, :] < x[..., :, None]).sum(-1)
    alike = (x[..., None, :] == x[..., :, None]).sum(-1)
    return below + (alike + 1) / 2


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """Spearman's rank correlation along the last dimension (Pearson's of the ranks).

    Args:
        x: (..., n); y: (..., n), n >= 2.

    Returns:
        (...) float64; NaN where one side has a NaN or does not vary.
    """
    a, b = (ranks(each).double() for each in (x, y))
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    found = (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    undefined = x.isnan().any(-1) | y.isnan().any(-1)
    return found.masked_fill(undefined, torch.nan)
