"""Where the residual sums of a model lie, and where their positions and channels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.anatomy import Anatomy, ResidualSite
from seelike.measures import SkipMeasures, skip_measures

MEANS = 2
"""Columns that follow the tokens of a place: the mean over its prefix tokens, and over its spatial ones."""


@dataclass(frozen=True)
class Place:
    """A residual sum with what is known of its positions.

    Attributes:
        site: the residual sum.
        tokens: positions, prefix tokens first; those of a map in row-major order; 1 for a vector.
        prefix_tokens: how many of them have no place in the image.
        channels: dimension of the channels in a tensor with the images first.
        block_index: of its block among the blocks of the model, -1 outside all blocks.
        relative_depth: of the sum among the layers of the model, 0 first and 1 last.
    """

    site: ResidualSite
    tokens: int
    prefix_tokens: int
    channels: int
    block_index: int
    relative_depth: float

    @property
    def columns(self) -> int:
        """What is summed up: every token, then the two means."""
        return self.tokens + MEANS

    def measure(self, skip: Tensor, branch: Tensor) -> Tensor:
        """Measures (5, images, tokens) of raw tensors, in the order of `SkipMeasures`."""
        z, f = self.site.batch_first(skip), self.site.batch_first(branch)
        measures: SkipMeasures = skip_measures(z, f, self.channels)
        return torch.stack(list(measures)).flatten(2) if z.dim() > 2 else torch.stack(list(measures))[..., None]


def find_places(anatomy: Anatomy, notes: list[str]) -> tuple[Place, ...]:
    """The residual sums of a model whose positions are known; `notes` gets a sentence for the others."""
    depths = {name: site.relative_depth for site in anatomy.layers for name in (site.name, *site.aliases)}
    blocks = {block: index for index, block in enumerate(anatomy.blocks)}
    found, dropped, assumed = [], [], []
    for number, site in enumerate(anatomy.residuals):
        channels = _channels(site)
        if channels is None:
            dropped.append(f"{site.name} {site.shape}")
            continue
        if site.layout.kind == "other":
            assumed.append(f"{site.name} {site.shape}")
        sizes = [size for dim, size in enumerate(site.shape, start=1) if dim != channels]
        depth = depths.get(site.name, number / max(1, len(anatomy.residuals) - 1))
        prefix = _prefix(site, anatomy)
        tokens = int(torch.Size(sizes).numel())
        found.append(Place(site, tokens, prefix, channels, blocks.get(site.block, -1), depth))
    if dropped:
        notes.append(f"{anatomy.name}: left out, as where their channels lie is not known: {_listed(dropped)}")
    if assumed:
        notes.append(
            f"{anatomy.name}: the last dimension is taken for the channels, and all tokens for spatial ones, of "
            f"{_listed(assumed)}; say otherwise with the layout option of the model"
        )
    return tuple(found)


def _prefix(site: ResidualSite, anatomy: Anatomy) -> int:
    """Prefix tokens of a site.

    A single token may be a class token that looks at all others (CaiT) or all that pooling has left of a map (PVT on
    small images): the former's block attends to more keys than it has queries.
    """
    if site.layout.kind != "tokens":
        return 0
    if site.shape[0] == 1:
        return int(any(a.block == site.block and a.key_tokens > 1 for a in anatomy.attentions))
    return site.layout.prefix_tokens


def _channels(site: ResidualSite) -> int | None:
    """Dimension of the channels with the images first, None where it is anyone's guess."""
    layout = site.layout
    if layout.kind == "map":
        return 3 if layout.channels_last else 1
    if layout.kind == "tokens":
        return 2
    if layout.kind == "vector":
        return 1
    # Two dimensions of which none is known to be the channels: tokens without a grid, as models write them.
    plain = len(site.shape) == 2 and layout.source == "shapes" and site.batch_factor == 1
    return 2 if plain else None


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
