"""Standard errors by leaving out one group of minibatches at a time.

The delete-m_j jackknife of Busing, Meijer & van der Leeden (1999): groups need not weigh the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def leave_one_out(groups: Tensor) -> Tensor:
    """Sums over all groups but one: (groups, ...) -> (groups, ...)."""
    return groups.sum(0, keepdim=True) - groups


def jackknife_error(left_out: Tensor, full: Tensor, weights: Tensor) -> Tensor:
    """Standard error of an estimate from its values with each group left out.

    Args:
        left_out: (groups, ...) estimates without each group.
        full: (...) the estimate from everything.
        weights: (groups,) how much data each group holds; a group of weight zero is not counted.

    Returns:
        (...) standard errors, NaN with fewer than 2 groups.
    """
    deviations = jackknife_deviations(left_out, full, weights)
    return deviations.square().sum(0).sqrt() if len(deviations) else torch.full_like(full, torch.nan)


def jackknife_deviations(left_out: Tensor, full: Tensor, weights: Tensor) -> Tensor:
    """What each group adds to the error: the sum of products of two estimates' deviations is their covariance.

    Arguments as of `jackknife_error`.

    Returns:
        (groups used, ...), none with fewer than 2 groups.
    """
    used = weights > 0
    left_out, weights = left_out[used], weights[used]
    count = len(weights)
    if count < 2:
        return left_out[:0]
    h = (weights.sum() / weights).reshape(-1, *[1] * full.dim())  # (groups, 1...)
    pseudo = h * full - (h - 1) * left_out
    centre = count * full - ((1 - 1 / h) * left_out).sum(0)
    deviations: Tensor = (pseudo - centre) / ((h - 1) * count).sqrt()
    return deviations


def t_quantile(groups: int, level: float = 0.95) -> float:
    """Half-width of a two-sided interval in standard errors, for an error estimated from so many groups.

    Student's t with groups - 1 degrees of freedom, by the Cornish-Fisher expansion around the normal quantile
    (Abramowitz & Stegun 26.7.5), which is within 1 % from 3 groups on; infinite with fewer than 2.
    """
    if groups < 2:
        return math.inf
    v = groups - 1
    z = float(torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64)))
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / v + g2 / v**2 + g3 / v**3 + g4 / v**4
