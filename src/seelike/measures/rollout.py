"""Attention maps and attention rollout: what a token looks at, through one block or through all (paper.md 5.7).

Attention weights are (..., queries, keys), prefix tokens (class token, registers) first on both axes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def token_map(weights: Tensor, query: int | None, *, query_prefix: int = 0, key_prefix: int = 0) -> Tensor:
    """What one query, or the mean of all that have a place in the image, gives to every key with a place.

    Args:
        weights: (..., query_prefix + q, key_prefix + k).
        query: its place among the queries, prefix tokens counted; None for the mean over those behind the prefix.

    Returns:
        (..., k); it sums to 1 less what goes to prefix tokens.
    """
    row = weights[..., query_prefix:, :].mean(-2) if query is None else weights[..., query, :]
    return row[..., key_prefix:]


def rollout_step(mean_weights: Tensor, *, skip: bool = True) -> Tensor:
    """One block of a rollout: ``A + I``, every row divided by its sum (Abnar and Zuidema 2020).

    Args:
        mean_weights: (..., t, t) attention weights, averaged over heads.
        skip: whether a skip leads around the attention; ``A`` alone without.

    Returns:
        (..., t, t), of rows that sum to 1.
    """
    step = mean_weights
    if skip:
        step = mean_weights + torch.eye(mean_weights.shape[-1], dtype=step.dtype, device=step.device)
    return step / step.sum(-1, keepdim=True)


def attention_rollout(weights: Iterable[Tensor], skips: Iterable[bool] | None = None) -> Tensor:
    """Attention rollout: ``R = A_L' ... A_1'``, with ``A_l'`` the `rollout_step` of block l's mean over heads.

    Args:
        weights: of every block from input to output, (..., heads, t, t); one at a time is held.
        skips: whether a skip leads around each attention; all by default.

    Returns:
        (..., t, t): row i says how much of token i at the output came from each token at the input, if attention
        alone moved anything. Rows sum to 1.

    Raises:
        ValueError: no blocks.
    """
    rollout: Tensor | None = None
    flags = iter(skips) if skips is not None else None
    for each in weights:
        step = rollout_step(each.mean(-3), skip=next(flags) if flags is not None else True)
        rollout = step if rollout is None else step @ rollout
    if rollout is None:
        raise ValueError("a rollout needs the attention of at least one block")
    return rollout


def box_cover(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Share of every cell of a grid that a box covers.

    Args:
        boxes: (n, 4) upper edge, left edge, lower edge, right edge, in units of the image's height and width; what
            lies outside [0, 1] is cut off.
        grid: rows and columns.

    Returns:
        (n, rows, columns) between 0 and 1; its mean is the box's share of the image.
    """
    top, left, bottom, right = boxes.unbind(1)

    def overlap(low: Tensor, high: Tensor, cells: int) -> Tensor:
        edges = torch.arange(cells + 1, dtype=boxes.dtype, device=boxes.device) / cells
        inside = torch.minimum(high[:, None], edges[1:]) - torch.maximum(low[:, None], edges[:-1])
        return inside.clamp(min=0) * cells

    return overlap(top, bottom, grid[0])[:, :, None] * overlap(left, right, grid[1])[:, None, :]


def unit_mass(maps: Tensor) -> Tensor:
    """Maps (..., rows, columns) divided by their sums; one without any weight becomes uniform."""
    total = maps.sum((-2, -1), keepdim=True)
    uniform = torch.full_like(maps, 1 / (maps.shape[-2] * maps.shape[-1]))
    return torch.where(total == 0, uniform, maps / torch.where(total == 0, 1.0, total))
