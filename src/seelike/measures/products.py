"""All pairs of layers from one matrix product: the unbiased HSIC without U-centring a single Gram matrix.

With the diagonals of K and L zero, row sums k and l and totals s and t, Song et al.'s estimator (paper.md 2.1) reads

    n (n - 3) HSIC_1(K, L) = <K, L> - 2 / (n - 2) k.l + s t / ((n - 1) (n - 2))

and each term is a product of something of K alone with the same of L. The terms are large beside their sum where the
entries of a Gram matrix are large beside their spread; they are float64, so that only the float32 in which the
entries were made counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from seelike.measures.gram import float64_device


@dataclass(frozen=True)
class GramSums:
    """What the products need of Gram matrices of one minibatch.

    Attributes:
        upper: (layers, n (n - 1) / 2) what stands above the diagonal; rows: (layers, n) row sums without the diagonal.
        spread: (layers,) sum of squares of the features about their mean.
    """

    upper: Tensor
    rows: Tensor
    spread: Tensor


LAYERS_AT_A_TIME = 16
"""Grams summed up together: enough to hide the cost of a call, few enough that what is made of them is quickly got."""


def gram_sums(grams: Tensor, upper: Tensor | None = None) -> GramSums:
    """Sum up Gram matrices (layers, n, n) with any origin; what stands below the diagonal is not looked at.

    Args:
        grams: (layers, n, n) float32 or float64.
        upper: (layers, n (n - 1) / 2) float64 to write to; memory that was written to before is faster than new.

    Raises:
        ValueError: fewer than 4 examples, for which the unbiased estimator does not exist.
    """
    layers, n, _ = grams.shape
    if n < 4:
        raise ValueError(f"the unbiased estimator needs at least 4 examples in a minibatch, not {n}")
    grams = grams.to(float64_device(grams.device))
    if upper is None:
        upper = torch.empty(layers, n * (n - 1) // 2, dtype=torch.float64, device=grams.device)
    places = _above_diagonal(n, grams.device)
    rows = []
    for some, into in zip(torch.split(grams, LAYERS_AT_A_TIME), torch.split(upper, LAYERS_AT_A_TIME), strict=True):
        into.copy_(some.flatten(-2).index_select(-1, places))
        above = some.triu(1)
        rows.append(above.sum(-1, dtype=torch.float64) + above.sum(-2, dtype=torch.float64))
    row_sums = torch.cat(rows)
    trace = grams.diagonal(dim1=-2, dim2=-1).sum(-1, dtype=torch.float64)
    return GramSums(upper, row_sums, trace - (trace + row_sums.sum(-1)) / n)


def hsic_products(a: GramSums, b: GramSums) -> Tensor:
    """``n (n - 3) HSIC_1`` of all pairs, (layers of a, layers of b) float64; may be negative.

    Sums of these over minibatches weigh each by n (n - 3), as they should.
    """
    n = a.rows.shape[-1]
    total, other = a.rows.sum(-1), b.rows.sum(-1).to(a.rows.device)
    products = 2 * (a.upper @ b.upper.to(a.upper.device).T)
    products -= (2 / (n - 2)) * (a.rows @ b.rows.to(a.rows.device).T)
    products += total[:, None] * other / ((n - 1) * (n - 2))
    return products


@lru_cache(maxsize=8)
def _above_diagonal(n: int, device: torch.device) -> Tensor:
    """Flat places of the upper triangle of an n x n matrix, diagonal left out."""
    rows, columns = torch.triu_indices(n, n, offset=1, device=device)
    places: Tensor = rows * n + columns
    return places
