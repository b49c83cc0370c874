"""Gram matrices of wide features, right in single precision.

Two things go wrong when a Gram matrix is made naively (peers.md, findings 2-4): a mean that is large beside the
spread eats the digits of float32, and one long float32 sum over a million features loses more of them. Here a
common point (the first example) is taken from all examples first, and sums over chunks of features are added up
in float64. What the shift leaves of the mean goes exactly when the Gram is centred, in float64.

Shifting by the first example rather than by the mean is one sweep over the features instead of two. Both are
measured in docs/numbers.md: the error in CKA stays under 4e-8 on real networks, 5e-7 with an outlier as first example.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_BYTES = 1 << 21
"""Bytes of features shifted and multiplied at a time on a CPU, so that they are read from memory once."""
CHUNK_FEATURES = 1 << 17
"""Features at a time elsewhere: float32 sums no longer than this are added up in float64."""
STRIPS_FROM = 64
"""From so many examples on, only the upper triangle is computed, in four strips: 28 % less time at 128."""


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
    step = max(1024, CHUNK_BYTES // (work.itemsize * n)) if x.device.type == "cpu" else CHUNK_FEATURES
    total = torch.zeros(n, n, dtype=torch.float64, device="cpu" if x.device.type == "mps" else x.device)
    starts = [n * i // 4 for i in range(4)] if n >= STRIPS_FROM and x.device.type == "cpu" else [0]
    ends = [*starts[1:], n]
    for first in range(0, p, step):
        part = x[:, first : first + step].to(work)
        part = part - part[0]
        for start, end in zip(starts, ends, strict=True):
            total[start:end, start:] += (part[start:end] @ part[start:].T).to(total.device)
    return total if len(starts) == 1 else total.triu() + total.triu(1).T


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
    off = gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
    mean = off.sum(-1) / (n - 2)  # (..., n)
    mean = mean - mean.sum(-1, keepdim=True) / (2 * (n - 1))
    off = off - mean[..., :, None] - mean[..., None, :]
    return off - torch.diag_embed(off.diagonal(dim1=-2, dim2=-1))


def pack(centred: Tensor) -> Tensor:
    """Write symmetric matrices with zero diagonal as vectors whose inner products are those of the matrices.

    Args:
        centred: (..., n, n).

    Returns:
        (..., n (n - 1) / 2): the upper triangle times sqrt(2). Half the memory, half the products.
    """
    n = centred.shape[-1]
    rows, columns = torch.triu_indices(n, n, offset=1, device=centred.device)
    return centred[..., rows, columns] * 2**0.5


def total_spread(gram: Tensor) -> Tensor:
    """Sum of squares of the features about their mean, from Gram matrices (..., n, n) with any origin."""
    return gram.diagonal(dim1=-2, dim2=-1).sum(-1) - gram.sum((-2, -1)) / gram.shape[-1]
