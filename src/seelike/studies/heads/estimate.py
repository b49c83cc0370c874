"""From summed products and distances to the CKA and the distance of subsets of heads, with errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.measures import leave_one_out
from seelike.measures.jackknife import jackknife_deviations
from seelike.measures.ranks import spearman
from seelike.studies.attention.estimate import ImageMeans
from seelike.studies.heads.outputs import HeadSite
from seelike.studies.heads.subsets import Rule, choose_subsets
from seelike.studies.similarity.estimate import PairEstimate, estimate_pair

DRAWS = 2000
"""Tables drawn for the error of a rank correlation."""


@dataclass(frozen=True)
class HeadEstimate:
    """Subsets of heads of one model, from near to far, and their CKA with layers of another.

    Attributes:
        heads: means over images of the distance of every head.
        members: (subsets, heads) of 0 and 1.
        table: maps of (subsets, layers + 1): CKA with every layer, and last the subset's mean distance in pixels.

    The order of the heads is that of all images; errors are of the values, given this order.
    """

    heads: ImageMeans
    members: Tensor
    table: PairEstimate

    def cka(self) -> tuple[Tensor, Tensor]:
        """Value and standard error, each (subsets, layers)."""
        value, error, _ = self.table.statistic(lambda maps: maps[..., :-1])
        return value, error

    def distance(self) -> tuple[Tensor, Tensor]:
        """Value and standard error in pixels, each (subsets,)."""
        value, error, _ = self.table.statistic(lambda maps: maps[..., -1])
        return value, error

    def near_minus_far(self) -> tuple[Tensor, Tensor]:
        """CKA of the nearest subset minus that of the farthest: value and standard error, each (layers,)."""
        value, error, _ = self.table.statistic(lambda maps: maps[..., 0, :-1] - maps[..., -1, :-1])
        return value, error

    def rank_correlation(self) -> tuple[Tensor, Tensor]:
        """Spearman's correlation of distance and CKA over subsets: value and standard error, each (layers,)."""
        return self._of_ranks(rank_correlation)

    def largest_rank_correlation(self) -> tuple[float, float]:
        """Largest of the layers' rank correlations (NaN where one has none), and its standard error."""
        value, error = self._of_ranks(lambda maps: rank_correlation(maps).amax(-1))
        return float(value), float(error)

    def _of_ranks(self, of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Value and standard error of a statistic of ranks.

        Ranks jump, so leaving out a group mostly changes nothing where subsets are close, and everything once: the
        jackknife fails. Its covariance of the table is right; the error is the spread of the statistic over tables
        drawn with it.
        """
        return of(self.table.maps.mean(0)), of(self._draws()).std(0)

    def _draws(self) -> Tensor:
        """(DRAWS, subsets, layers + 1), normal around the table with its errors and their correlations."""
        value, error, _ = self.table.statistic(lambda maps: maps)
        each = [
            jackknife_deviations(left, full, weights)
            for left, full, weights in zip(self.table.left_out, self.table.maps, self.table.weights, strict=True)
        ]
        deviations = torch.cat(each) / len(each) ** 0.5  # (repeats * groups, subsets, layers + 1)
        own = deviations.square().sum(0).sqrt()
        scaled = deviations * torch.where(own > 0, error / own, 0.0)  # the errors that repeats leave
        noise = torch.randn(DRAWS, len(scaled), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        drawn = value + torch.einsum("dg,gsl->dsl", noise, scaled)
        return drawn if len(scaled) else torch.full_like(drawn, torch.nan)


def rank_correlation(maps: Tensor) -> Tensor:
    """Spearman's correlation of the last column with all others: (..., subsets, layers + 1) -> (..., layers)."""
    cka, distance = maps[..., :-1].mT, maps[..., -1]  # (..., layers, subsets), (..., subsets)
    return spearman(distance[..., None, :].expand_as(cka), cka)


def estimate_heads(
    site: HeadSite,
    distances: ImageMeans,
    *,
    cross: Tensor,
    own: Tensor,
    layers: Tensor,
    constant: Tensor,
    weights: Tensor,
    rule: Rule,
    width: int,
) -> HeadEstimate:
    """Choose the subsets by the mean distance of the heads, and add up their products.

    Args:
        site: the heads; distances: of the heads.
        cross: (repeats, groups, parts, layers) products of parts of heads with layers; own: (repeats, groups, parts,
            parts) with each other; layers: (repeats, groups, layers) of layers with themselves.
        constant: (heads,) which do not vary.
        weights: (repeats, groups) summed n (n - 3).
        rule, width: see `choose_subsets`.
    """
    members = choose_subsets(distances.mean, rule, width)
    parts = site.part_weights(members)  # (subsets, parts)
    varies = members @ (~constant).double() > 0
    products = torch.einsum("sp,rgpq,sq->rgs", parts, own, parts) * varies
    found = estimate_pair(torch.einsum("sp,rgpl->rgsl", parts, cross), products, layers, weights)

    # A subset's distance is its heads' mean; as one more column it takes part in the jackknife.
    mean = (members / members.sum(1, keepdim=True)).T  # (heads, subsets)
    sums, images = distances.sums[0] @ mean, distances.images  # (repeats, groups, subsets), (repeats, groups)
    whole = sums.sum(1) / images.sum(1)[:, None]
    left_out = torch.stack([leave_one_out(s) / leave_one_out(n)[:, None] for s, n in zip(sums, images, strict=True)])
    table = PairEstimate(
        torch.cat([found.maps, whole[..., None]], -1),
        torch.cat([found.left_out, left_out[..., None]], -1),
        weights,
    )
    return HeadEstimate(distances, members, table)
