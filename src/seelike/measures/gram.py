"""Gram matrices of wide features, right in single precision.

Two things go wrong when a Gram matrix is made naively (peers.md, findings 2-4): a mean that is large beside the
spread eats the digits of float32, and one long float32 sum over a million features loses more of them. Here a
common point (the first example) is taken from all examples first, and sums over chunks of features are added up
in float64. What the shift leaves of the mean goes exactly when the Gram is centred, in float64.

Shifting by the first example rather than by the mean is one sweep over the features instead of two. Both are
measured in docs/numbers.md: the error in CKA stays under 4e-8 on real networks, 7e-7 with an outlier as first example.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch
from torch import Tensor

CHUNK_BYTES = 1 << 22
"""Bytes of features shifted and multiplied at a time on a CPU, so that they are read from memory once."""
CHUNK_FEATURES = 1 << 17
"""Features at a time elsewhere."""
PARTS = 2
"""A chunk is multiplied in parts side by side, each on a core, which is faster than one product that cores share."""
SUM_BYTES = 1 << 23
"""Products kept in float32 before they are summed in float64."""


SMALL_BYTES = 1 << 20
"""Features of so few bytes are multiplied at once: calls would cost more than they save."""


def _strips(n: int, device: torch.device) -> list[tuple[int, int]]:
    """Rows that are multiplied together with all rows from theirs on: only the upper triangle is computed.

    More strips spare more products but make each smaller; with few examples that costs more than it spares.
    """
    count = 1 if device.type != "cpu" or n < 32 else 2 if n < 64 else 4
    edges = [n * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def shifted_gram(features: Tensor) -> Tensor:
    """Gram matrix of features with the first example as origin: ``(X - x_0)(X - x_0)^T``.

    Args:
        features: (n, ...) one row per example, any floating dtype; everything after the batch is flattened.

    Returns:
        (n, n) float64 on the same device (on the CPU where the device has no float64). Centring or U-centring it
        gives what it would give for ``X X^T``. Constant features give exact zeros.
    """
    x = features.reshape(features.shape[0], -1)
    n, p = x.shape
    work = x.dtype if x.dtype == torch.float64 else torch.float32
    if p * work.itemsize * n <= SMALL_BYTES:
        part = x.to(work) - x[0].to(work)
        gram: Tensor = (part @ part.T).to("cpu" if x.device.type == "mps" else x.device, torch.float64)
        return gram
    step = max(1024, CHUNK_BYTES // (work.itemsize * n)) if x.device.type == "cpu" else CHUNK_FEATURES
    total = torch.zeros(n, n, dtype=torch.float64, device="cpu" if x.device.type == "mps" else x.device)
    origin = x[0].to(work)
    scratch = torch.empty(n, min(step, p), dtype=work, device=x.device)  # one for all chunks: memory is slow to get
    strips = _strips(n, x.device)
    held = max(1, SUM_BYTES // (PARTS * n * n * work.itemsize))  # chunks whose products are summed together
    products = [torch.empty(held, PARTS, end - start, n - start, dtype=work, device=x.device) for start, end in strips]
    waiting = 0
    for first in range(0, p, step):
        width = min(step, p - first)
        even = width - width % PARTS
        part = scratch[:, :width]
        torch.sub(x[:, first : first + width], origin[first : first + width], out=part)
        halves = torch.unflatten(part[:, :even], 1, (PARTS, -1)).transpose(0, 1)  # (PARTS, n, width / PARTS)
        for (start, end), store in zip(strips, products, strict=True):
            torch.bmm(halves[:, start:end], halves[:, start:].mT, out=store[waiting])
        if even < width:
            total += (part[:, even:] @ part[:, even:].T).to(total.device)
        waiting += 1
        if waiting == held or first + width == p:
            for (start, end), store in zip(strips, products, strict=True):
                total[start:end, start:] += store[:waiting].to(total.device).sum((0, 1), dtype=total.dtype)
            waiting = 0
    return total if len(strips) == 1 else total.triu() + total.triu(1).T


def u_centre(gram: Tensor) -> Tensor:
    """U-centre Gram matrices: the form whose products are the unbiased HSIC (Székely & Rizzo; paper.md 2.1).

    Args:
        gram: (..., n, n), n >= 4.

    Returns:
        (..., n, n) with zero diagonal and zero row sums; ``<u_centre(K), u_centre(L)> / (n (n - 3))`` is HSIC_1(K, L).
    """
    n = gram.shape[-1]
    if n < 4:
        raise ValueError(f"the unbiased estimator needs at least 4 examples in a minibatch, not {n}")
    off = gram.clone()
    off.diagonal(dim1=-2, dim2=-1).zero_()
    mean = off.sum(-1) / (n - 2)  # (..., n)
    mean = mean - mean.sum(-1, keepdim=True) / (2 * (n - 1))
    off -= mean[..., :, None]
    off -= mean[..., None, :]
    off.diagonal(dim1=-2, dim2=-1).zero_()
    return off


def pack(centred: Tensor) -> Tensor:
    """Write symmetric matrices with zero diagonal as vectors whose inner products are those of the matrices.

    Args:
        centred: (..., n, n).

    Returns:
        (..., n (n - 1) / 2): the upper triangle times sqrt(2). Half the memory, half the products.
    """
    return centred.flatten(-2).index_select(-1, _upper_triangle(centred.shape[-1], centred.device)) * 2**0.5


@lru_cache(maxsize=8)
def _upper_triangle(n: int, device: torch.device) -> Tensor:
    """Flat places of the upper triangle of an n x n matrix, diagonal left out."""
    rows, columns = torch.triu_indices(n, n, offset=1, device=device)
    places: Tensor = rows * n + columns
    return places


def total_spread(gram: Tensor) -> Tensor:
    """Sum of squares of the features about their mean, from Gram matrices (..., n, n) with any origin."""
    return gram.diagonal(dim1=-2, dim2=-1).sum(-1) - gram.sum((-2, -1)) / gram.shape[-1]
