"""Gram matrices of wide features, right in single precision.

Two things go wrong when a Gram matrix is made naively (peers.md, findings 2-4): a mean that is large beside the
spread eats the digits of float32, and one long float32 sum over a million features loses more of them. Here a
common point (the first example) is taken from all examples first, and sums over chunks of features are added up
in float64. What the shift leaves of the mean goes exactly when the Gram is centred, in float64.

Shifting by the first example rather than by the mean is one sweep over the features instead of two. Both are
measured in docs/numbers.md: the error in CKA stays under 4e-8 on real networks, 1e-6 with an outlier as first example.
"""

from __future__ import annotations

import platform
from functools import lru_cache

import torch
from torch import Tensor

CHUNK_BYTES = 1 << 22
"""Bytes of features shifted and multiplied at a time on a CPU, so that they are read from memory once."""
CHUNK_FEATURES = 1 << 17
"""Features at a time elsewhere."""
STRIP = 128
"""Rows that are multiplied together with all rows from theirs on, so that little below the diagonal is computed."""
NARROW_STRIP, WIDE = 64, 4096
"""The same for so many features and more, where calls are cheap beside their work."""
LEAST = 1 << 21
"""Multiply-adds from which oneDNN's product is faster than the BLAS's."""


def shifted_gram(features: Tensor) -> Tensor:
    """Gram matrix of features with the first example as origin: ``(X - x_0)(X - x_0)^T``.

    Args:
        features: (n, ...) one row per example, any floating dtype; everything after the batch is flattened.

    Returns:
        (n, n) float64 on the same device (on the CPU where the device has no float64). Centring or U-centring it
        gives what it would give for ``X X^T``. Constant features give exact zeros.
    """
    n = features.shape[0]
    gram = torch.empty(n, n, dtype=torch.float64, device=float64_device(features.device))
    write_gram(features, gram)
    return gram.triu() + gram.triu(1).T


def float64_device(device: torch.device) -> torch.device:
    """Where float64 lives: the device itself, or the CPU beside a device that has none."""
    return torch.device("cpu") if device.type == "mps" else device


def write_gram(features: Tensor, out: Tensor) -> None:
    """Write `shifted_gram` of features (n, ...) into `out` (n, n): what lies below the diagonal is undefined."""
    x = features.flatten(1)
    n, p = x.shape
    work = x.dtype if x.dtype == torch.float64 else torch.float32
    step = max(1024, CHUNK_BYTES // (work.itemsize * n)) if x.device.type == "cpu" else CHUNK_FEATURES
    origin = x[0].to(work)
    if p <= step:
        return _write_products(x.to(work) - origin, out)
    total = torch.zeros(n, n, dtype=torch.float64, device=float64_device(x.device))
    scratch = torch.empty(n * step, dtype=work, device=x.device)  # one for all chunks: memory is slow to get
    product = torch.empty(n, n, dtype=work, device=x.device)
    for first in range(0, p, step):
        width = min(step, p - first)
        part = scratch[: n * width].view(n, width)
        torch.sub(x[:, first : first + width], origin[first : first + width], out=part)
        _write_products(part, product)
        total += product.to(total.device)
    out.copy_(total)
    return None


def _write_products(part: Tensor, out: Tensor) -> None:
    n, p = part.shape
    strip = NARROW_STRIP if p >= WIDE else STRIP
    if n < 2 * strip:
        if out.dtype == part.dtype and not _through_onednn(part, n):
            torch.mm(part, part.T, out=out)
        else:
            out.copy_(_product(part, part))
        return
    for start in range(0, n, strip):
        out[start : start + strip, start:].copy_(_product(part[start : start + strip], part[start:]))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply contiguous rows with rows: ``a @ b.T``."""
    if _through_onednn(a, b.shape[0]):
        # Plain float32 like the BLAS's, and on CPUs that the BLAS was not tuned for up to twice as fast.
        product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
        return product
    return a @ b.T


def _through_onednn(a: Tensor, rows: int) -> bool:
    fits = a.device.type == "cpu" and a.dtype == torch.float32 and a.is_contiguous() and a.numel() * rows >= LEAST
    return fits and _has_onednn()


@lru_cache(maxsize=1)
def _has_onednn() -> bool:
    """Whether this build of torch has oneDNN's product for this kind of CPU (an operator that its compiler uses)."""
    intel_like = platform.machine().lower() in ("x86_64", "amd64")
    return intel_like and torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


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
