"""What a residual sum is made of: how long the skip is beside the branch, and where they point (paper.md 2.4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PIECE_BYTES = 1 << 21
"""What is worked on at a time on a CPU: fits the caches, and is handed back and forth by the allocator."""


class SkipMeasures(NamedTuple):
    """Measures of ``z + f(z)`` at every position; z is what the skip carries, f(z) what the branch adds.

    A measure that does not exist is not finite: the ratio where the branch is zero, a cosine where one of its
    vectors is.
    """

    ratio: Tensor
    """``||z|| / ||f||``."""
    cosine_output: Tensor
    """``cos(z, z + f)``: 1 where the sum is what the skip carried."""
    cosine_branch: Tensor
    """``cos(z, f)``: 0 where the branch writes what the skip does not hold."""
    skip_norm: Tensor
    """``||z||``."""
    branch_norm: Tensor
    """``||f||``."""


def skip_measures(skip: Tensor, branch: Tensor, dim: int = -1) -> SkipMeasures:
    """Compare what arrives by a skip with what the branch adds to it (Raghu et al. 2021, Figure 7 and E.2).

    For a branch at right angles to the skip, ``cosine_output = ratio / sqrt(1 + ratio^2)``.

    Args:
        skip: (..., channels, ...) one operand of the residual sum; branch: the other one, of the same shape.
        dim: where the channels are.

    Returns:
        Each (...) without the channels; float64 for float64 tensors, float32 for all others.
    """
    zz, ff, zf, tt = _products_in_pieces(skip, branch, dim % skip.dim()).unbind()
    skip_norm, branch_norm = zz.sqrt(), ff.sqrt()
    return SkipMeasures(
        ratio=skip_norm / branch_norm,
        # Divided one by one: the product of two small norms is rounded to zero long before they are.
        cosine_output=(zz + zf) / skip_norm / tt.sqrt(),
        cosine_branch=zf / skip_norm / branch_norm,
        skip_norm=skip_norm,
        branch_norm=branch_norm,
    )


def _products_in_pieces(skip: Tensor, branch: Tensor, dim: int) -> Tensor:
    """``z.z, f.f, z.f, t.t`` with t = z + f, (4, ...); on a CPU piece by piece.

    There, new memory for a map of products costs several times what the products do.
    """
    along = dim if dim < skip.dim() - 1 else 0  # pieces of rows that lie together
    bytes_each = skip[:1].numel() * 4 if along == 0 else skip.select(along, 0).numel() * 4
    step = max(1, PIECE_BYTES // max(1, bytes_each)) if skip.device.type == "cpu" else skip.shape[along]
    pieces = zip(torch.split(skip, step, along), torch.split(branch, step, along), strict=True)
    if along != dim:
        return torch.cat([_products(z, f, dim) for z, f in pieces], 1)
    total = _products(*next(pieces), dim)
    for z, f in pieces:
        total += _products(z, f, dim)
    return total


def _products(skip: Tensor, branch: Tensor, dim: int) -> Tensor:
    work = torch.float64 if skip.dtype == torch.float64 else torch.float32
    z, f = skip.to(work), branch.to(work)
    # Not z.z + 2 z.f + f.f, which is nothing but rounding where the branch takes away what the skip brings.
    t = z + f
    return torch.stack([(a * b).sum(dim) for a, b in ((z, z), (f, f), (z, f), (t, t))])
