"""Gram matrices of wide features, right in single precision.

Two things go wrong when a Gram matrix is made naively (peers.md, findings 2-4): a mean that is large beside the
spread eats the digits of float32, and one long float32 sum over a million features loses more of them. Here the
batch mean goes first, and sums over chunks of features are added up in float64. Chunks that fit a core's cache
make the two extra sweeps almost free: the features are read from memory once.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_BYTES = 1 << 20
"""Bytes of features centred and multiplied at a time on a CPU; about the second-level cache of a core."""


def centred_gram(features: Tensor) -> Tensor:
    """Gram matrix of features whose mean over the batch is taken away: ``(X - mean)(X - mean)^T``.

    Args:
        features: (n, ...) one row per example, any floating dtype; everything after the batch is flattened.

    Returns:
        (n, n) float64 on the same device (float64 on the CPU where the device has none).

    Constant features give exact zeros: the mean is taken of differences to the first example, which are zero.
    """
    x = features.reshape(features.shape[0], -1)
    n, p = x.shape
    work = x.dtype if x.dtype == torch.float64 else torch.float32
    step = max(1024, CHUNK_BYTES // (work.itemsize * n)) if x.device.type == "cpu" else 1 << 17
    total = torch.zeros(n, n, dtype=torch.float64, device=_float64_device(x.device))
    for start in range(0, p, step):
        part = x[:, start : start + step].to(work)
        part = part - part[0]
        part -= part.mean(0)
        total += (part @ part.T).to(total.device)
    return total


def _float64_device(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type == "mps" else device


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
