"""What similarity maps are read for: ends, best matches, blocks (paper.md 3, Figures 1 and 2, and 4, H)."""

from __future__ import annotations

import torch
from torch import Tensor


def ends_similarity(maps: Tensor) -> Tensor:
    """Mean similarity of the first third of a model's layers to its last third (claim F1 of paper.md 6).

    Args:
        maps: (..., layers, layers) of one model with itself, at least 2 layers. Layers that do not vary (NaN)
            are left out of the mean.

    Returns:
        (...) means.
    """
    third = max(1, maps.shape[-1] // 3)
    return maps[..., :third, -third:].nanmean((-2, -1))


def best_match(maps: Tensor) -> tuple[Tensor, Tensor]:
    """For each layer, the other model's layer that is most similar, and how similar it is.

    Args:
        maps: (..., layers, other_layers).

    Returns:
        index (..., layers) and value (..., layers); value NaN (index 0) where a row is all NaN.
    """
    value, index = torch.nan_to_num(maps, nan=-torch.inf).max(-1)
    return index, torch.where(value.isinf(), torch.nan, value)


def relative_depth(index: Tensor, layers: int) -> Tensor:
    """Layer index as a share of the depth: 0 for the first layer, 1 for the last."""
    return index.to(torch.float64) / max(1, layers - 1)


def lower_half_match_depth(maps: Tensor) -> Tensor:
    """Mean relative depth, in the row model, of the best matches of the column model's lower half (claim F2).

    Args:
        maps: (..., layers, other_layers).

    Returns:
        (...) between 0 and 1; 0.25 means that the lower half of the column model is matched, on average, a
        quarter of the way up the row model.
    """
    other = maps.mT[..., : max(1, maps.shape[-1] // 2), :]
    index, value = best_match(other)
    depth = relative_depth(index, maps.shape[-2])
    return torch.where(value.isnan(), torch.nan, depth).nanmean(-1)


def block_contrast(maps: Tensor, split: int) -> Tensor:
    """Mean similarity within the two parts of a model cut at `split`, minus the mean across the cut.

    Args:
        maps: (..., layers, layers); the diagonal does not count.
        split: layers below it are the first part; 1 <= split <= layers - 1.
    """
    layers = maps.shape[-1]
    side = torch.arange(layers, device=maps.device) >= split
    same = side[:, None] == side[None, :]
    off = ~torch.eye(layers, dtype=torch.bool, device=maps.device)
    return _mean_where(maps, same & off) - _mean_where(maps, ~same)


def best_split(maps: Tensor) -> int:
    """Where cutting a model's layers in two gives the greatest `block_contrast` (paper.md 4, H).

    Args:
        maps: (layers, layers).

    Each part keeps at least two layers (one in models of three layers), so that 'within' means something.
    """
    layers = maps.shape[-1]
    least = 2 if layers >= 4 else 1
    defined = maps.isfinite()
    off = defined & ~torch.eye(layers, dtype=torch.bool, device=maps.device)
    sums = _corners(torch.where(off, maps, 0.0))
    counts = _corners(off.to(maps.dtype))
    within, n_within = (c[0] + c[1] for c in (sums, counts))  # (layers - 1,), split 1 first
    across, n_across = (c[2] - c[0] - c[1] for c in (sums, counts))
    contrast = within / n_within - across / n_across
    contrast = torch.nan_to_num(contrast, nan=-torch.inf)[least - 1 : layers - least]
    return least + int(contrast.argmax())


def _corners(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of the first s x s corner and of the rest's corner, for s = 1 .. layers - 1, and of everything."""
    prefix = values.cumsum(0).cumsum(1)
    first = prefix.diagonal()[:-1]
    total = prefix[-1, -1]
    last = total - 2 * prefix[-1, :-1] + first  # the map is symmetric
    return first, last, total


def _mean_where(maps: Tensor, mask: Tensor) -> Tensor:
    values = maps[..., mask]
    return values.nanmean(-1) if values.shape[-1] else torch.zeros(maps.shape[:-2], dtype=maps.dtype)
