"""How the tensor of a layer becomes features: tokens and positions one by one, and pooled (paper.md 2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seelike.anatomy import Anatomy, LayerSite
from seelike.errors import SeelikeError

POOLINGS = ("cls", "mean", "spatial")
"""The first prefix token; mean over all tokens; mean over tokens that have a place in the image."""
Grid = tuple[int, int]


@dataclass(frozen=True)
class View:
    """A layer as a probe sees it.

    Attributes:
        site: the layer.
        patch: side of the patches of a map that are flattened into features, before pooling.
        grid: rows and columns of positions after pooling; None without known positions.
        sets: the poolings that differ; ``mean`` is ``spatial`` where there is no prefix token.
        tokens: spatial tokens or positions; 0 for a vector.
        features: of each of them.
    """

    site: LayerSite
    patch: int
    grid: Grid | None
    sets: tuple[str, ...]
    tokens: int
    features: int

    def set_of(self, pooling: str) -> int | None:
        """Which of `sets` a pooling is, None where the layer has no such."""
        if pooling == "mean" and "mean" not in self.sets:
            return 0
        return self.sets.index(pooling) if pooling in self.sets else None

    def read(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Tensor (n, *site.shape) -> pooled features (sets, n, features), and those of tokens (tokens, n, features).

        In float32, and no view of the tensor.
        """
        layout, x = self.site.layout, tensor.to(torch.float32)
        if layout.kind == "vector":
            return x[None].clone(), x.new_empty(0, *x.shape)
        prefix = x[:, : layout.prefix_tokens] if layout.kind == "tokens" else x.new_empty(len(x), 0, self.features)
        tokens = self._positions(x)  # (n, tokens, features)
        ways = {
            "cls": lambda: prefix[:, 0],
            "mean": lambda: torch.cat([prefix, tokens], 1).mean(1),
            "spatial": lambda: tokens.mean(1),
        }
        return torch.stack([ways[name]() for name in self.sets]), tokens.transpose(0, 1).clone()

    def _positions(self, x: Tensor) -> Tensor:
        layout = self.site.layout
        if layout.kind == "tokens":
            tokens = x[:, layout.prefix_tokens :]
            if self.grid is None or self.grid == layout.grid or layout.grid is None:
                return tokens
            maps = tokens.transpose(1, 2).reshape(len(x), -1, *layout.grid)  # (n, channels, rows, columns)
        else:
            maps = x.movedim(3, 1) if layout.channels_last else x
        maps = F.pixel_unshuffle(maps, self.patch)  # (n, channels * patch^2, rows, columns)
        if self.grid is not None and tuple(maps.shape[2:]) != self.grid:
            maps = F.adaptive_avg_pool2d(maps, self.grid)
        return maps.flatten(2).transpose(1, 2)


def choose_views(anatomy: Anatomy, words: Sequence[str], notes: list[str]) -> tuple[View, ...]:
    """Views of the layers chosen; `notes` gets a sentence for those whose positions are not known.

    Raises:
        SeelikeError: none of them can be probed.
    """
    sites = anatomy.select(words)
    able = [site for site in sites if site.layout.kind != "other"]
    if not able:
        raise SeelikeError(
            f"{anatomy.name}: the study probe does not know where positions and channels lie in any of the "
            f"{len(sites)} layers chosen ({sites[0].name}, shape {sites[0].shape}); choose other layers "
            "(probe.layers), or say it with the layout option of the model"
        )
    if len(able) < len(sites):
        names = ", ".join(site.name for site in sites if site.layout.kind == "other")
        notes.append(f"{anatomy.name}: not probed, as where their positions lie is not known: {names}")
    last = _last_stage(anatomy, able)
    return tuple(make_view(site, last) for site in able)


def _last_stage(anatomy: Anatomy, chosen: Sequence[LayerSite]) -> LayerSite | None:
    """The last block output with positions, or the last such layer chosen in a model without blocks."""
    blocks = [site for site in anatomy.layers if site.is_block_output]
    placed = [site for site in blocks or chosen if site.layout.grid is not None]
    return placed[-1] if placed else None


def make_view(site: LayerSite, last: LayerSite | None) -> View:
    """The view of a layer, flattened and pooled to look like the `last` stage (paper.md 2.5)."""
    layout, channels = site.layout, _channels(site)
    if layout.kind == "vector":
        return View(site, 1, None, ("spatial",), 0, channels)
    if layout.kind == "tokens" and site.shape[0] == layout.prefix_tokens:
        return View(site, 1, None, ("cls",), 0, channels)
    patch, grid = 1, layout.grid
    if last is not None and last.layout.grid is not None and grid is not None:
        if layout.kind == "map":
            patch = _patch(grid, channels, last.layout.grid, _channels(last))
        smaller = grid[0] >= last.layout.grid[0] and grid[1] >= last.layout.grid[1]
        grid = last.layout.grid if smaller else grid
    sets = POOLINGS if layout.kind == "tokens" and layout.prefix_tokens else ("spatial",)
    tokens = grid[0] * grid[1] if grid is not None else site.shape[0] - layout.prefix_tokens
    return View(site, patch, grid, sets, tokens, channels * patch**2)


def _channels(site: LayerSite) -> int:
    last = site.layout.kind != "map" or site.layout.channels_last
    return site.shape[-1] if last else site.shape[0]


def _patch(grid: Grid, channels: int, last_grid: Grid, last_channels: int) -> int:
    """Side of the patches that bring the width closest to the last stage's without exceeding it."""
    sides = [
        side
        for side in range(1, min(grid) + 1)
        if not (grid[0] % side or grid[1] % side)
        and (grid[0] // side >= last_grid[0] and grid[1] // side >= last_grid[1])
        and channels * side**2 <= last_channels
    ]
    return max(sides, default=1)
