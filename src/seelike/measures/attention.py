"""How far attention looks, how widely, and how much of it goes to tokens without a place (paper.md 2.2).

Attention weights are (..., query tokens, key tokens), prefix tokens (class token, registers) first on both axes.
Averages are over the queries that have a place in the image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pixel_distances(queries: Tensor, keys: Tensor) -> Tensor:
    """Euclidean distances between places in the image.

    Args:
        queries: (q, 2) rows and columns in pixels; keys: (k, 2).

    Returns:
        (q, k) in pixels, float64; exactly 0 for equal places.
    """
    between = queries.to(torch.float64)[:, None] - keys.to(torch.float64)  # (q, k, 2)
    found: Tensor = torch.linalg.vector_norm(between, dim=-1)
    return found


def attention_distance(
    weights: Tensor, distances: Tensor, *, query_prefix: int = 0, key_prefix: int = 0, renormalize: bool = False
) -> Tensor:
    """Mean attention distance: ``mean_q sum_k A[q, k] D[q, k]`` over tokens with a place (paper.md 2.2 b).

    Rows and columns of prefix tokens are dropped, and rows are not renormalised, so that attention to a class
    token counts as distance 0; with `renormalize` each row is divided by what it gives to tokens with a place
    (rows that give nothing are left out).

    Args:
        weights: (..., query_prefix + q, key_prefix + k) attention weights.
        distances: (q, k) in pixels.
        query_prefix: leading queries without a place; key_prefix: leading keys without.
        renormalize: see above.

    Returns:
        (...) in the unit of `distances`.
    """
    if renormalize:
        placed = weights[..., query_prefix:, key_prefix:]
        rows = (placed * distances.to(placed)).sum(-1) / placed.sum(-1)
        return rows.nanmean(-1)
    # With zeros where the prefix is, one product with the whole matrix does it, without a copy of its part.
    whole = F.pad(distances.to(weights), (key_prefix, 0, query_prefix, 0))
    found: Tensor = weights.flatten(-2) @ whole.flatten() / len(distances)
    return found


def uniform_distance(distances: Tensor, key_prefix: int = 0, *, renormalize: bool = False) -> float:
    """Mean attention distance of attention that weighs all keys alike, prefix keys too.

    Args:
        distances: (q, k) in pixels; key_prefix: keys without a place beside them.
        renormalize: as in `attention_distance`.
    """
    keys = distances.shape[1]
    share = 1.0 if renormalize else keys / (keys + key_prefix)
    return float(distances.to(torch.float64).mean()) * share


def attention_entropy(weights: Tensor, query_prefix: int = 0) -> Tensor:
    """Mean entropy of the rows, over all keys: ``mean_q sum_k -A log A`` in nats.

    0 when every query looks at one key, log(key tokens) when all look at all alike; -inf where a weight is
    negative and so no probability.

    Args:
        weights: (..., query_prefix + q, keys).

    Returns:
        (...) in nats.
    """
    each: Tensor = torch.special.entr(weights[..., query_prefix:, :])
    return each.sum(-1).mean(-1)


def prefix_share(weights: Tensor, query_prefix: int = 0, key_prefix: int = 0) -> Tensor:
    """Mean share of attention that queries with a place give to keys without one.

    Args:
        weights: (..., query_prefix + q, key_prefix + k).

    Returns:
        (...) between 0 and 1.
    """
    return weights[..., query_prefix:, :key_prefix].sum(-1).mean(-1)


def unit_columns(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Attention weights with every column (how one key feeds all queries) scaled to norm 1.

    Args:
        weights: (..., queries, keys).

    Returns:
        (..., queries, keys), and which columns can be scaled (..., keys), as numbers 0 and 1: a key that no query
        attends to has a column of zeros, which is left as it is.
    """
    norms = torch.linalg.vector_norm(weights, dim=-2, keepdim=True)
    present = norms > 0
    return weights / torch.where(present, norms, 1.0), present.squeeze(-2).to(weights)


def counted_columns(present: Tensor) -> Tensor:
    """How many columns of two maps can be compared: those that are not zero throughout in both.

    Args:
        present: (..., maps, columns) from `unit_columns`.

    Returns:
        (..., maps, maps).
    """
    absent = 1 - present
    return present.shape[-1] - absent @ absent.mT


def map_similarity(unit: Tensor, present: Tensor) -> Tensor:
    """Mean cosine of equal columns of attention maps, all maps with all (DeepViT, Zhou et al. 2021; paper.md 5.2).

    ``M[i, j] = mean_t <A_i[:, t], A_j[:, t]> / (|A_i[:, t]| |A_j[:, t]|)``. A key that no query of one map attends
    to counts as 0; one that no query of either attends to is not counted. 1 for a map with itself.

    Args:
        unit: (..., maps, columns * queries) from `unit_columns`, columns of several heads joined where wanted.
        present: (..., maps, columns).

    Returns:
        (..., maps, maps).
    """
    found: Tensor = (unit @ unit.mT) / counted_columns(present)
    return found
