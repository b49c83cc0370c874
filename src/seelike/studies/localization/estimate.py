"""From sums of products to CKA maps of tokens, and what is read off them, with errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.measures import cka_from_products
from seelike.measures.localization import (
    grid_distances,
    on_border,
    own_patch_hit,
    own_patch_margin,
    own_patch_rank,
    peak_distance,
)
from seelike.studies.localization.places import Place
from seelike.studies.localization.resample import Resampled, draw_groups

QUANTITIES = ("hit", "rank", "distance", "margin")
"""What is read off every token's map."""
PARTS = ("all", "interior", "border")
"""Which tokens a mean is over; a border token lies on the edge of the grid."""


@dataclass(frozen=True)
class LayerEstimate:
    """One layer.

    Attributes:
        place: the layer; maps: its CKA (tokens, patches).
        per_token: (quantities, tokens), in the order of `QUANTITIES`.
        readouts: (quantities, parts), means of these over tokens.
        chance: (quantities, parts) what a peak anywhere gives; a margin's chance level is 0.
    """

    place: Place
    maps: Resampled
    per_token: Resampled
    readouts: Resampled
    chance: Tensor


def estimate_layer(
    place: Place, cross: Tensor, own: Tensor, patch_own: Tensor, weights: Tensor, size: tuple[int, int]
) -> LayerEstimate:
    """Estimate a layer from its sums.

    Args:
        place: the layer.
        cross: (repeats, groups, tokens, patches); own: (repeats, groups, tokens); patch_own: (repeats, groups,
            patches); zero where something does not vary.
        weights: (repeats, groups) summed n (n - 3); size: height and width of the image in pixels.
    """
    maps = _maps(cross, own, patch_own, weights)
    distances = grid_distances(place.grid, *size)
    border = on_border(place.grid)

    def per_token(cka: Tensor) -> Tensor:
        return torch.stack(
            [own_patch_hit(cka), own_patch_rank(cka), peak_distance(cka, distances), own_patch_margin(cka)], -2
        )

    each = maps.map(per_token)
    readouts = each.map(lambda values: _over_parts(values, border))
    return LayerEstimate(place, maps, each, readouts, _chance(maps.values[0], distances, border))


def _maps(cross: Tensor, own: Tensor, patch_own: Tensor, weights: Tensor) -> Resampled:
    """CKA (repeats, tokens, patches) and its draws."""
    counts = draw_groups(weights)  # (repeats, draws, groups)
    drawn = torch.einsum("rdg,rgtp->rdtp", counts, cross)
    return Resampled(
        cka_from_products(cross.sum(1), own.sum(1), patch_own.sum(1)),
        cka_from_products(drawn, counts @ own, counts @ patch_own),
        int((weights > 0).sum(1).min()),
    )


def _chance(cka: Tensor, distances: Tensor, border: Tensor) -> Tensor:
    """What the readouts would be if every patch that varies were as likely the peak, (quantities, parts)."""
    defined = ~cka.isnan()
    counted, patches = defined.diagonal(), defined.any(0)
    varying = int(patches.sum())
    every = torch.ones(len(counted), dtype=torch.float64)
    chance = [every / max(1, varying), every * (varying + 1) / 2, distances[:, patches].mean(1), 0 * every]
    return _over_parts(torch.stack(chance).masked_fill(~counted, torch.nan), border)


def _over_parts(values: Tensor, border: Tensor) -> Tensor:
    """Mean over all tokens, over those inside and over those on the border: (..., tokens) -> (..., parts)."""
    return torch.stack([values.nanmean(-1), values[..., ~border].nanmean(-1), values[..., border].nanmean(-1)], -1)
