"""What patch embeddings and position embeddings look like (Figure 7 of Dosovitskiy et al. 2021; paper.md 5.6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DRAWS = 200
"""Random exchanges of positions (or sets of random filters, fewer) behind an error."""
RANDOM_FILTERS = 5


def principal_filters(filters: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Principal components of filters, centred over the filters.

    The sign of a component is arbitrary; here its largest entry is positive.

    Args:
        filters: (d, n) filters of n pixels (times colours); count: components wanted, fewer if there are fewer.

    Returns:
        (min(count, d - 1, n), n) components of length 1, and (min(d - 1, n),) the share of the variance that each
        component holds, NaN where all filters are equal; float64.
    """
    centred = filters.double() - filters.double().mean(0)
    _, values, components = torch.linalg.svd(centred, full_matrices=False)
    rank = min(len(filters) - 1, filters.shape[1])
    variance = values[:rank].square()
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    return (components * largest.sign())[: min(count, rank)], variance / variance.sum()


def components_needed(shares: Tensor, level: float) -> int:
    """How many components it takes to hold `level` of the variance.

    Args:
        shares: (n,) shares of the variance, largest first.
    """
    return int((shares.cumsum(0) < level - 1e-12).sum()) + 1


def components_of_noise(filters: int, pixels: int, level: float, seed: int = 0) -> tuple[float, float]:
    """How many components filters of independent normal numbers need: mean and standard deviation over draws."""
    generator = torch.Generator().manual_seed(seed)
    needed = []
    for _ in range(RANDOM_FILTERS):
        noise = torch.randn(filters, pixels, generator=generator, dtype=torch.float64)
        centred = noise - noise.mean(0)
        gram = centred @ centred.mT if filters < pixels else centred.mT @ centred  # the smaller one
        variance = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0)
        needed.append(components_needed(variance / variance.sum(), level))
    drawn = torch.tensor(needed, dtype=torch.float64)
    return float(drawn.mean()), float(drawn.std())


def position_similarity(embedding: Tensor) -> Tensor:
    """Cosine between the position embeddings of all patches.

    Args:
        embedding: (rows, columns, d).

    Returns:
        (rows, columns, rows, columns) float64; NaN where an embedding is zero.
    """
    flat = embedding.double().flatten(0, 1)
    unit = flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True)  # 0 / 0: NaN
    cosines: Tensor = (unit @ unit.mT).clamp(-1, 1)
    return cosines.reshape(*embedding.shape[:2], *embedding.shape[:2])


@dataclass(frozen=True)
class Exchanged:
    """A statistic of pairs of positions.

    Attributes:
        value: as it is.
        error: its standard deviation when the embeddings are dealt to the positions at random (Mantel 1967).
    """

    value: float
    error: float


@dataclass(frozen=True)
class PositionStructure:
    """How the similarity of position embeddings depends on where two patches lie.

    Attributes:
        distance_correlation: Spearman's correlation of cosine and distance over all pairs of different patches.
        centre_correlation: the same with how much farther one patch is from the centre of the image than the other.
        row_excess: mean cosine of patches of one row, minus that of patches neither of one row nor of one column
            that lie as far from each other (to the nearest whole patch).
        column_excess: the same for patches of one column.
        same_row: mean cosine of patches of one row; same_column, other: of one column, of neither.
        neighbour_share: share of patches whose most similar other patch touches them (8 neighbours), with the error
            of a share; neighbour_chance: what it is by chance.
    """

    distance_correlation: Exchanged
    centre_correlation: Exchanged
    row_excess: Exchanged
    column_excess: Exchanged
    same_row: float
    same_column: float
    other: float
    neighbour_share: Exchanged
    neighbour_chance: float


def position_structure(similarity: Tensor, seed: int = 0) -> PositionStructure:
    """Read what `position_similarity` shows, on a grid of at least 2 x 2 patches.

    Args:
        similarity: (rows, columns, rows, columns); seed: of the random exchanges.
    """
    rows, columns = similarity.shape[:2]
    place = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(similarity)
    between = (place[:, None] - place).abs()  # (n, n, 2)
    distance = between.square().sum(-1).sqrt()
    cosine = similarity.flatten(0, 1).flatten(1)
    pairs = distance > 0
    row, column = (between[..., 0] == 0) & pairs, (between[..., 1] == 0) & pairs
    neither = pairs & ~row & ~column
    outward = (place - place.mean(0)).square().sum(-1).sqrt()
    centre = (outward[:, None] - outward).abs()
    ranked, *against = (_standardised_ranks(each, pairs) for each in (cosine, distance, centre))
    lines = [_matched(each, neither, distance.round()) for each in (row, column)]
    weights, values = torch.stack([*against, *lines]), torch.stack([ranked, ranked, cosine, cosine])
    found, errors = (values * weights).sum((1, 2)), _exchange_errors(values, weights, seed)
    correlation, outwards, row_excess, column_excess = (
        Exchanged(float(v), float(e)) for v, e in zip(found, errors, strict=True)
    )
    touching = between.amax(-1) == 1
    nearest = cosine.masked_fill(~pairs, -torch.inf).argmax(1)
    share = float(touching[torch.arange(len(nearest)), nearest].double().mean())
    if bool(cosine.isnan().any()):
        share = float("nan")
    same_row, same_column, other = (float(cosine[mask].mean()) for mask in (row, column, neither))
    return PositionStructure(
        correlation,
        outwards,
        row_excess,
        column_excess,
        same_row,
        same_column,
        other,
        Exchanged(share, (share * (1 - share) / len(nearest)) ** 0.5),
        float(touching.double().sum(1).mean() / (len(nearest) - 1)),
    )


def _standardised_ranks(values: Tensor, pairs: Tensor) -> Tensor:
    """Ranks over all pairs (ties share theirs) with mean 0 and norm 1, 0 elsewhere; NaN where they are all one."""
    # Rounding must not order what is equal by symmetry.
    rounded = values[pairs].mul(1e9).round().sort()
    starts = torch.searchsorted(rounded.values, rounded.values)
    ends = torch.searchsorted(rounded.values, rounded.values, right=True)
    rank = torch.empty_like(rounded.values)
    rank[rounded.indices] = (starts + ends).to(rank) / 2
    rank = rank - rank.mean()
    found = torch.zeros_like(values)
    found[pairs] = rank / torch.linalg.vector_norm(rank)
    return found + (torch.nan if bool(values.isnan().any()) else 0)


def _matched(on: Tensor, off: Tensor, distance: Tensor) -> Tensor:
    """Weights of the mean over `on` minus the mean over `off` at the same distances; NaN when none are the same."""
    weights = torch.zeros_like(distance)
    total = 0
    for each in sorted(set(distance[on].tolist())):
        here, there = on & (distance == each), off & (distance == each)
        if bool(there.any()):
            count = int(here.sum())
            weights[here] += 1
            weights[there] -= count / int(there.sum())
            total += count
    return weights / total if total else torch.full_like(weights, torch.nan)


def _exchange_errors(values: Tensor, weights: Tensor, seed: int) -> Tensor:
    """Standard deviation of ``sum(weights * values)`` over exchanges of positions: (k, n, n) twice -> (k,)."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(DRAWS):
        order = torch.randperm(values.shape[-1], generator=generator)
        drawn.append((values[:, order][:, :, order] * weights).sum((1, 2)))
    return torch.stack(drawn).std(0)
