"""Ridge regression in closed form, for all lambdas at once: the linear probe (paper.md 2.5).

Features are standardised with the mean and the standard deviation of the fit images, targets have their mean taken
away and given back as the bias, which so is not shrunk. With X (n, d) and Y (n, m) made like that,

    W = (X^T X + lambda I)^-1 X^T Y = Q (L + lambda I)^-1 Q^T X^T Y        X^T X = Q L Q^T,  d x d
      = X^T (X X^T + lambda I)^-1 Y = X^T U (L + lambda I)^-1 U^T Y        X X^T = U L U^T,  n x n

One eigendecomposition of the smaller of the two Grams serves every lambda: ``W = basis (L + lambda I)^-1 loads``.
Everything is float64, and everything has leading batch dimensions (layers, tokens, draws).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

STD_EPSILON = 1e-5
"""Added to standard deviations (the probe of big_vision and scenic)."""
ROUNDING = 2.0**-20
"""A feature whose spread is under so small a share of its mean varies in the last bits of float32 only: left out."""
LAMBDAS = tuple(2.0**power for power in range(-10, 21))


def class_targets(labels: Tensor, classes: int) -> Tensor:
    """Targets of a classifier: +1 in the column of the class, -1 elsewhere; (n,) -> (n, classes) float64."""
    return 2.0 * torch.nn.functional.one_hot(labels.long(), classes).double() - 1.0


@dataclass(frozen=True)
class RidgeSums:
    """Sums over examples that a ridge regression can be solved from. They add: ``a + b`` is both halves of the data.

    Attributes:
        count: (...) examples; x: (..., d) sum of features; y: (..., m) of targets.
        xx: (..., d, d) sum of ``x x^T``; xy: (..., d, m) of ``x y^T``; yy: (..., m) of squared targets.
    """

    count: Tensor
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def of(cls, features: Tensor, targets: Tensor) -> RidgeSums:
        """Sums of features (..., n, d) and targets (..., n, m), in float64."""
        x, y = features.double(), targets.double()
        count = torch.full(x.shape[:-2], x.shape[-2], dtype=torch.float64, device=x.device)
        return cls(count, x.sum(-2), y.sum(-2), x.mT @ x, x.mT @ y, y.square().sum(-2))

    def __add__(self, other: RidgeSums) -> RidgeSums:
        return RidgeSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Affine:
    """A linear map with its origin: ``(x - mean) weights + bias``.

    Attributes:
        mean: (..., d); weights: (..., d, m), of features that are not standardised; bias: (..., m).
    """

    mean: Tensor
    weights: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Predict (..., n, d) -> (..., n, m), in the precision of this map: `to(torch.float32)` it for many images."""
        x = features.to(self.weights) - self.mean[..., None, :]
        return x @ self.weights + self.bias[..., None, :]

    def to(self, target: torch.dtype | torch.device) -> Affine:
        """In another precision or on another device."""
        return Affine(self.mean.to(target), self.weights.to(target), self.bias.to(target))


@dataclass(frozen=True)
class RidgePath:
    """Ridge solutions as a function of lambda: ``W = basis (values + lambda)^-1 loads`` for standardised features.

    Attributes:
        mean, scale: (..., d) of the fit; scale is infinite for a feature that does not vary, which so has no part.
        bias: (..., m) mean of the targets.
        basis: (..., d, r); values: (..., r); loads: (..., r, m), r the smaller of n and d.
    """

    mean: Tensor
    scale: Tensor
    bias: Tensor
    basis: Tensor
    values: Tensor
    loads: Tensor

    def at(self, penalty: Tensor | float) -> Affine:
        """The solution for one lambda, or for one lambda per element of the batch (...)."""
        penalty = torch.as_tensor(penalty, dtype=self.values.dtype, device=self.values.device)
        shrunk = self.loads / (self.values + penalty[..., None])[..., None]
        return Affine(self.mean, (self.basis @ shrunk) / self.scale[..., None], self.bias)

    def along(self, features: Tensor, lambdas: Sequence[float]) -> Tensor:
        """Predictions for every lambda: (..., n, d) -> (lambdas, ..., n, m)."""
        coordinates = self.coordinates(features)
        return torch.stack([self.from_coordinates(coordinates, penalty) for penalty in lambdas])

    def coordinates(self, features: Tensor) -> Tensor:
        """What is the same for all lambdas: (..., n, d) -> (..., n, r)."""
        x = (features.to(self.basis) - self.mean[..., None, :]) / self.scale[..., None, :]
        return x @ self.basis

    def from_coordinates(self, coordinates: Tensor, penalty: float) -> Tensor:
        """Predictions (..., n, m) for one lambda from `coordinates`."""
        return coordinates @ (self.loads / (self.values + penalty)[..., None]) + self.bias[..., None, :]


def ridge_path(features: Tensor, targets: Tensor, present: Tensor | None = None) -> RidgePath:
    """Solve from the examples themselves, in the smaller of the two spaces (paper.md 2.5).

    Args:
        features: (..., n, d).
        targets: (..., n, m), or (n, m) for the whole batch.
        present: (..., n) True for the rows that count (slots that were filled); None for all. At least one each.
    """
    x, y = features.double(), targets.double()
    here = x.new_ones(x.shape[:-1]) if present is None else present.to(x).expand(x.shape[:-1])
    here = here[..., None]  # (..., n, 1)
    count = here.sum(-2)
    mean, bias = (x * here).sum(-2) / count, (y * here).sum(-2) / count
    x = (x - mean[..., None, :]) * here
    scale = _scale(mean, x.square().sum(-2) / count)
    x = x / scale[..., None, :]
    y = (y - bias[..., None, :]) * here
    if x.shape[-1] <= x.shape[-2]:
        values, basis = torch.linalg.eigh(x.mT @ x)
        return RidgePath(mean, scale, bias, basis, values, basis.mT @ (x.mT @ y))
    values, u = torch.linalg.eigh(x @ x.mT)
    return RidgePath(mean, scale, bias, x.mT @ u, values, u.mT @ y)


def ridge_path_from_sums(sums: RidgeSums) -> RidgePath:
    """Solve from sums over examples, where there are more of them than features: nothing else need be kept."""
    count = sums.count[..., None]
    mean, bias = sums.x / count, sums.y / count
    centred = sums.xx - count[..., None] * mean[..., :, None] * mean[..., None, :]
    scale = _scale(mean, centred.diagonal(dim1=-2, dim2=-1).clamp_min(0) / count)
    gram = centred / scale[..., :, None] / scale[..., None, :]
    product = (sums.xy - count[..., None] * mean[..., :, None] * bias[..., None, :]) / scale[..., :, None]
    values, basis = torch.linalg.eigh((gram + gram.mT) / 2)
    return RidgePath(mean, scale, bias, basis, values, basis.mT @ product)


def _scale(mean: Tensor, variance: Tensor) -> Tensor:
    std = variance.sqrt()
    return (std + STD_EPSILON).masked_fill(std <= ROUNDING * mean.abs(), torch.inf)


def correct(predictions: Tensor, labels: Tensor) -> Tensor:
    """Whether the largest prediction is that of the true class: (..., n, classes) and (n,) -> (..., n) bool."""
    return predictions.argmax(-1) == labels


def best_lambda(scores: Tensor) -> Tensor:
    """Index of the lambda of the highest score on held-out examples, of several the largest lambda.

    Args:
        scores: (lambdas, ...), lambdas ascending.
    """
    return len(scores) - 1 - scores.flip(0).argmax(0)
