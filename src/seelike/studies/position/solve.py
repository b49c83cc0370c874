"""From sums over images to a read-out and its errors."""

from __future__ import annotations

import torch
from torch import Tensor

from seelike.measures.ridge import LAMBDAS, Affine, RidgeSums, best_lambda, ridge_path_from_sums


def solve(fit: RidgeSums, tune: RidgeSums) -> tuple[Affine, float]:
    """Choose lambda by the squared error on `tune` of what is fitted to `fit`, then fit to both.

    All targets share one lambda, each weighing by its own spread.
    """
    path = ridge_path_from_sums(fit)
    spread = total_squares(tune).clamp_min(torch.finfo(torch.float64).tiny)
    scores = torch.stack([-(squared_errors(tune, path.at(penalty)) / spread).sum() for penalty in LAMBDAS])
    penalty = LAMBDAS[int(best_lambda(scores))]
    return ridge_path_from_sums(fit + tune).at(penalty), penalty


def squared_errors(sums: RidgeSums, read: Affine) -> Tensor:
    """Sum of squared errors of a read-out over the examples of `sums`, per target (m,).

    With x and y counted from the origin (mean, bias) of the map it is y.y - 2 w.xy + w.xx.w: no example is needed.
    """
    n, mean, bias, w = sums.count, read.mean, read.bias, read.weights
    xx = sums.xx - torch.outer(sums.x, mean) - torch.outer(mean, sums.x) + n * torch.outer(mean, mean)
    xy = sums.xy - torch.outer(sums.x, bias) - torch.outer(mean, sums.y) + n * torch.outer(mean, bias)
    yy = sums.yy - 2 * bias * sums.y + n * bias.square()
    return yy - 2 * (w * xy).sum(0) + (w * (xx @ w)).sum(0)


def total_squares(sums: RidgeSums) -> Tensor:
    """Sum of squares of the targets about their mean, (m,)."""
    return sums.yy - sums.y.square() / sums.count
